"""A page on which a small network is built and watched while it trains: ``fastnn playground``."""

from __future__ import annotations

import webbrowser

from fastnn.playground.server import Server
from fastnn.playground.settings import from_address

__all__ = ["serve"]


def serve(port: int = 0, state: str = "", *, open_browser: bool = True) -> None:
    """Serve the page on the loopback until interrupted, and open it in the browser.

    ``state`` is what an address of the page has behind "#", or the whole address: what it begins with. OSError where
    the port is taken; TypeError or ValueError, which names the setting, where a state sets what cannot be.
    """
    settings = from_address(state)
    with Server(port) as server:
        address = f"{server.address}#{settings.address()}".removesuffix("#")
        print(f"the playground is at {address}\nCtrl-C ends it", flush=True)
        if open_browser:
            webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
