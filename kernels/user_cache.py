"""Where fastnn keeps what it can fetch or make again: one folder of the user's, a folder in it for each kind."""

from __future__ import annotations

import os
from pathlib import Path


def folder(kind: str) -> Path:
    """``$FASTNN_CACHE/<kind>``, else ``<kind>`` in the platform's cache folder for fastnn; nothing is made.

    Raises OSError where the user has neither the variable nor a home folder.
    """
    chosen = os.environ.get("FASTNN_CACHE")
    try:
        if chosen:
            path = Path(chosen).expanduser()
        else:
            import platformdirs

            path = Path(platformdirs.user_cache_dir("fastnn")).expanduser()  # older releases leave ~ as it is
    except RuntimeError as error:
        raise OSError("this user has no home folder, and FASTNN_CACHE names no other place for a cache") from error
    return path.absolute() / kind
