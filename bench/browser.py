"""A headless Chromium, where Debian's chromium and chromium-driver are installed, and selenium to drive it."""

from __future__ import annotations

import shutil
from typing import Any

DRIVER, CHROMIUM = shutil.which("chromedriver"), shutil.which("chromium")
LACKING = "Debian's chromium and chromium-driver are not installed"


def started() -> Any:
    """A browser of its own, to be ended by ``quit()``; ImportError without selenium, OSError without the programs."""
    from selenium import webdriver

    if not (DRIVER and CHROMIUM):
        raise OSError(LACKING)
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
