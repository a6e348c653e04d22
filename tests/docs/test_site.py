"""The built site (slow): no warning, nothing from another host, and as Chromium shows it, narrow and wide."""

from __future__ import annotations

import functools
import http.server
import os
import re
import subprocess
import sys
import threading

import pages
import pytest

pytestmark = pytest.mark.slow

_SHOWN = (
    *("", "start/", "ops/gemm/", "library/layers/", "fast/", "scaling/report/", "examples/xor/"),
    "coming-from/keras/",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site: a warning ends its building, but that of the theme's makers, who announce another."""
    for package in ("mkdocs", "material", "jupytext", "matplotlib"):
        pytest.importorskip(package, reason="the site needs what pip install '.[docs,test]' brings")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", "docs/mkdocs.yml", "-d", str(folder)]
    surroundings = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=pages.ROOT, env=surroundings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_nothing_comes_from_another_host(site):
    """Pictures, scripts and styles lie in the site; only what a reader follows may lead elsewhere."""
    found = [*site.rglob("*.html")]
    assert len(found) > 50
    for path in found:
        loaded = re.findall(r"<(?:script|img|iframe)\b[^>]*?\bsrc=\"?([^\">\s]+)", path.read_text("utf-8"))
        loaded += re.findall(r"<link\b[^>]*?\bhref=\"?([^\">\s]+)", path.read_text("utf-8"))
        assert [each for each in loaded if re.match(r"\w*:?//", each)] == [], path
        for each in loaded:
            assert each.startswith(("data:", "/")) or (path.parent / each.partition("?")[0]).exists(), f"{path}: {each}"


@pytest.fixture(scope="module")
def address(site):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_in_a_browser(browser, address, width, scheme):
    """Nothing wider than the window, no error, no request to another host, colours as the reader's system has them."""
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(address)
    browser.execute_script("localStorage.clear(), sessionStorage.clear()")  # where the last colours are remembered
    for page in _SHOWN:
        browser.get(f"{address}{page}")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width, page
        colours = browser.execute_script("return document.body.dataset.mdColorScheme")
        assert colours == {"light": "default", "dark": "slate"}[scheme], page
        requested = browser.execute_script("return performance.getEntriesByType('resource').map(each => each.name)")
        assert [each for each in requested if not each.startswith(address)] == [], page
        broken = browser.execute_script(
            "return [...document.images].filter(each => !each.naturalWidth).map(each => each.src)"
        )
        assert broken == [], page
        assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == [], page
