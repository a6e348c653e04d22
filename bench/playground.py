"""``fastnn bench playground``: epochs a second of its engine, and frames a second that a browser draws."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from bench import browser, environment
from fastnn.playground.server import Server
from fastnn.playground.settings import COUNT, from_address
from fastnn.playground.training import Training

# What is promised: epochs of COUNT points, and frames.
EPOCHS, FRAMES = 300, 30
_FRAME_SECONDS = 0.02  # of training between two frames, as the page asks for

_TRAINED = "train_share=90&"  # the largest share that can be set
NETWORKS = {
    "2-4-2-1, as the page begins": "",
    "the same, batches of 1": "batch=1",
    "7 features, 8-8-8-8-8-8": "problem=spiral&features=x1,x2,x1^2,x2^2,x1*x2,sin(x1),sin(x2)&layers=8,8,8,8,8,8",
}


def epochs_a_second(address: str, seconds: float) -> float:
    """How many epochs a network learns in a second, by calls as long as those between two frames."""
    training = Training(from_address(_TRAINED + address))
    training.train(20)  # compiled, and its pace known
    begun, started = training.epoch, perf_counter()
    while (passed := perf_counter() - started) < seconds:
        training.train(1000, _FRAME_SECONDS)
    return (training.epoch - begun) / passed


def frames_a_second(page: Any, address: str, seconds: float) -> float:
    """How many frames a page draws in a second while it trains: those that the browser has painted behind an epoch."""
    page.get("about:blank")
    page.get(address)
    _wait(page, "return document.body.dataset.ready === 'true'")
    page.execute_script("document.getElementById('speed').value = '1'; document.getElementById('play').click()")
    _wait(page, "return Number(document.getElementById('epoch').textContent) > 5")
    count = (
        "const [seconds, done] = arguments; const shown = () => document.getElementById('epoch').textContent;"
        "const begun = performance.now(); let [frames, last] = [0, shown()];"
        "const look = (now) => { if (shown() !== last) { frames += 1; last = shown(); }"
        "  if (now - begun < 1000 * seconds) requestAnimationFrame(look);"
        "  else done(1000 * frames / (now - begun)); };"
        "requestAnimationFrame(look);"
    )
    found = page.execute_async_script(count, seconds)
    page.execute_script("document.getElementById('play').click()")
    return float(found)


def _wait(page: Any, script: str) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(page, 30, 0.05).until(lambda driver: driver.execute_script(script))


@contextmanager
def _served() -> Iterator[str]:
    """The address of a playground that is served meanwhile."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.address
        finally:
            server.shutdown()
            thread.join()


def main(argv: Sequence[str] | None = None) -> int:
    """Print both figures of each network; 1 where one is lower than what is promised."""
    parser = argparse.ArgumentParser(prog="fastnn bench playground", description=(__doc__ or "").partition(": ")[2])
    parser.add_argument("--seconds", type=float, default=3.0, metavar="S", help="of each measurement (default: 3)")
    seconds = parser.parse_args(argv).seconds
    print(environment.heading(environment.facts(with_blas=False)))
    print(f"\n{'network':32}{'epochs/s':>12}{'frames/s':>12}   ({int(0.9 * COUNT)} of {COUNT} points train)")
    page, lacking = _browser()
    below = False
    try:
        with _served() as address:
            for name, state in NETWORKS.items():
                epochs = epochs_a_second(state, seconds)
                frames = frames_a_second(page, f"{address}#{_TRAINED}{state}", seconds) if page else None
                below |= epochs < EPOCHS and "batches of 1" not in name
                below |= frames is not None and frames < FRAMES
                print(f"{name:32}{epochs:12,.0f}{'-' if frames is None else f'{frames:.0f}':>12}", flush=True)
    finally:
        if page:
            page.quit()
    print(f"{'promised, at least':32}{EPOCHS:12}{FRAMES:12}" + (f"\nframes: {lacking}" if lacking else ""))
    return int(below)


def _browser() -> tuple[Any, str]:
    """A browser, or why there is none."""
    try:
        return browser.started(), ""
    except ImportError:
        return None, "selenium is not installed: pip install -e '.[browser]'"
    except OSError as error:
        return None, str(error)


if __name__ == "__main__":
    raise SystemExit(main())
