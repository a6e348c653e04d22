"""``python -m fastnn`` is the command ``fastnn``."""

from __future__ import annotations

import sys

from fastnn.cli import main

sys.exit(main())
