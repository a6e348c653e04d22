"""The page and its messages: a server on the loopback that talks to its own page alone.

Every address begins with a token that only this server and who opened its page know; a message whose Host or Origin is
another than the server's is refused, and so is one that is too large. A page asks for each frame: who does not ask
costs nothing, and whose page is closed, or has not asked for a while, is forgotten.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from time import monotonic
from typing import Any

import numpy as np

from fastnn import checks
from fastnn.playground import settings as table
from fastnn.playground.problems import PROBLEMS, SIDE, points
from fastnn.playground.script import script
from fastnn.playground.training import Training

LOOPBACK = "127.0.0.1"
MOST_BYTES = 16 * 1024  # of a message
MOST_TABS = 32  # trained at once: the one that asked longest ago makes room
IDLE_SECONDS = 600.0  # after which a tab that does not ask is forgotten
SOCKET_SECONDS = 60.0  # of silence, after which a connection is closed
MOST_SECONDS = 0.5  # of training for a frame
MOST_EPOCHS = 1000
MOST_NAME = 64
_PREVIEWED = 90  # points of a problem's small picture

_TYPES = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "drawing.js": "text/javascript; charset=utf-8",
    "controls.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class RefusedError(Exception):
    """A request that is answered by an error; nothing else has changed."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass
class _Tab:
    """What a page trains, and when it last asked."""

    training: Training
    seen: float


class Tabs:
    """The trainings of all pages, by names that they give themselves."""

    def __init__(
        self, most: int = MOST_TABS, idle: float = IDLE_SECONDS, clock: Callable[[], float] = monotonic
    ) -> None:
        self._most, self._idle, self._clock = most, idle, clock
        self._tabs: OrderedDict[str, _Tab] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._tabs)

    def of(self, name: str, settings: table.Settings) -> tuple[Training, bool]:
        """The training of the page of this name, by these settings, and whether it has begun anew."""
        with self._lock:
            tab = self._tabs.get(name)
            if tab is not None:
                tab.seen = self._clock()
                self._tabs.move_to_end(name)
        if tab is not None:
            return tab.training, tab.training.change(settings)
        tab = _Tab(Training(settings), self._clock())
        with self._lock:
            self._tabs[name] = tab
            while len(self._tabs) > self._most:
                self._tabs.popitem(last=False)
        return tab.training, True

    def close(self, name: str) -> None:
        """Forget a page; one that is not known is none."""
        with self._lock:
            self._tabs.pop(name, None)

    def forget_idle(self) -> None:
        """Forget whoever has not asked for long."""
        with self._lock:
            now = self._clock()
            for name in [name for name, tab in self._tabs.items() if now - tab.seen > self._idle]:
                del self._tabs[name]


class Server(ThreadingHTTPServer):
    """Serves the playground at ``address`` until ``shutdown``; ``port`` 0 is any that is free."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        self.token = secrets.token_urlsafe(24)
        self.tabs = Tabs()
        super().__init__((LOOPBACK, port), _Handler)

    @property
    def origins(self) -> tuple[str, ...]:
        """Where its page may be at home."""
        return tuple(f"http://{host}" for host in self.hosts)

    @property
    def hosts(self) -> tuple[str, ...]:
        """How it may be called."""
        return f"{LOOPBACK}:{self.server_port}", f"localhost:{self.server_port}"

    @property
    def address(self) -> str:
        """Of the page."""
        return f"http://{LOOPBACK}:{self.server_port}/{self.token}/"

    def service_actions(self) -> None:
        """Called by the serving loop twice a second."""
        self.tabs.forget_idle()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A page that is closed while it is answered is none of our trouble."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = SOCKET_SECONDS
    # An answer leaves at once and in one piece: in two, the second waits some 40 ms for the first to be acknowledged.
    wbufsize = 1 << 16
    disable_nagle_algorithm = True
    server: Server

    def do_GET(self) -> None:
        self._answer(self._page)

    def do_POST(self) -> None:
        self._answer(self._message)

    def version_string(self) -> str:
        return "fastnn"

    def log_message(self, *_: Any) -> None:
        """Thirty frames a second are nothing to write down."""

    def _answer(self, served: Callable[[], tuple[str, bytes]]) -> None:
        status = HTTPStatus.OK
        try:
            kind, body = served()
        except RefusedError as error:
            status, kind, body = error.status, *_json({"error": str(error)})
            self.close_connection = True  # what is left of the request is not read
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **_HEADERS}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    # -------------------------------------------------------------------------------------------------------- requests

    def _name(self) -> str:
        """What is asked for, behind the token."""
        if self.headers.get("Host") not in self.server.hosts:
            raise RefusedError(HTTPStatus.FORBIDDEN, f"Host: wants {self.server.hosts[0]}")
        _, token, *rest = self.path.partition("?")[0].split("/", 2) if self.path.startswith("/") else ("", "")
        if not rest or not secrets.compare_digest(token.encode(), self.server.token.encode()):
            raise RefusedError(HTTPStatus.FORBIDDEN, "the address lacks the token that fastnn playground has printed")
        return rest[0]

    def _page(self) -> tuple[str, bytes]:
        name = self._name() or "index.html"
        if name not in _TYPES:
            raise RefusedError(HTTPStatus.NOT_FOUND, "there is no such page")
        return _TYPES[name], _content(name)

    def _message(self) -> tuple[str, bytes]:
        name = self._name()
        if self.headers.get("Origin") not in self.server.origins:
            raise RefusedError(HTTPStatus.FORBIDDEN, f"Origin: wants {self.server.origins[0]}")
        if name not in _MESSAGES:
            raise RefusedError(HTTPStatus.NOT_FOUND, "there is no such message")
        message = self._body()
        try:
            return _json(_MESSAGES[name](self.server.tabs, message))
        except (TypeError, ValueError, OverflowError) as error:
            raise RefusedError(HTTPStatus.BAD_REQUEST, str(error)) from error

    def _body(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if not (length.isdecimal() and len(length) < 10) or "Transfer-Encoding" in self.headers:
            raise RefusedError(HTTPStatus.LENGTH_REQUIRED, "Content-Length: wants the message's number of bytes")
        if int(length) > MOST_BYTES:
            raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"got {length} bytes, wants at most {MOST_BYTES}")
        try:
            message = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "the message is no JSON") from error
        if not isinstance(message, dict):
            raise RefusedError(HTTPStatus.BAD_REQUEST, "the message is no object")
        return message


# ------------------------------------------------------------------------------------------------------------ messages


def _frame(tabs: Tabs, message: dict[str, Any]) -> dict[str, Any]:
    """Train a page's network by its settings, as many epochs as there is time for, and show it."""
    name, settings = _tab(message), table.from_message(message.get("settings", {}))
    epochs = checks.integer("epochs", message.get("epochs", 0), 0, MOST_EPOCHS)
    seconds = checks.real("seconds", message.get("seconds", MOST_SECONDS), minimum=0)
    restart, whole = _flag("restart", message), _flag("whole", message)
    training, anew = tabs.of(name, settings)
    if restart:
        training.restart()
    if epochs:
        training.train(epochs, min(seconds, MOST_SECONDS))
    return training.frame(whole or anew or restart)


def _script(tabs: Tabs, message: dict[str, Any]) -> dict[str, Any]:
    """The program of what is on the screen."""
    epochs = checks.integer("epochs", message.get("epochs", 100), 1, 10**9)
    return {"script": script(table.from_message(message.get("settings", {})), epochs)}


def _close(tabs: Tabs, message: dict[str, Any]) -> dict[str, Any]:
    """A page is gone."""
    tabs.close(_tab(message))
    return {}


def _described(tabs: Tabs, message: dict[str, Any]) -> dict[str, Any]:
    """What can be set; of an address, what it sets."""
    address = checks.instance("address", message.get("address", ""), str, "a string")
    values = dict(table.from_address(address).values)
    return {**table.described(), "values": values, "previews": {"side": SIDE, "points": _previews()}}


_MESSAGES = {"frame": _frame, "script": _script, "close": _close, "described": _described}


def _tab(message: dict[str, Any]) -> str:
    name = checks.instance("tab", message.get("tab"), str, "a string")
    if not 0 < len(name) <= MOST_NAME:
        raise ValueError(f"tab: got {len(name)} characters, wants 1 to {MOST_NAME}")
    return str(name)


def _flag(name: str, message: dict[str, Any]) -> bool:
    return bool(checks.instance(name, message.get(name, False), bool, "true or false"))


def _json(answer: dict[str, Any]) -> tuple[str, bytes]:
    return "application/json", json.dumps(answer, allow_nan=False, separators=(",", ":")).encode()


@cache
def _previews() -> dict[str, list[Any]]:
    """Some points of each problem."""
    drawn = {name: points(name, _PREVIEWED) for name in PROBLEMS}
    return {name: np.column_stack(each).round(2).tolist() for name, each in drawn.items()}


@cache
def _content(name: str) -> bytes:
    return (files("fastnn.playground") / "page" / name).read_bytes()
