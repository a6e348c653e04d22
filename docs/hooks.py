"""What MkDocs calls while it builds the site."""

from __future__ import annotations

from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files

from docs import navigation


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The pages' order, of those that are written and those that are made."""
    written: list[Any] = config.nav or []
    config.nav = navigation.expanded(written, [page.src_uri for page in files.documentation_pages()])
    return files
