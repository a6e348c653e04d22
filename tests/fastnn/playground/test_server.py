"""The playground's server: whom it answers, and what."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from urllib.parse import urlsplit

import pytest

from fastnn import cli
from fastnn.playground import server as served
from fastnn.playground.server import MOST_BYTES, Server, Tabs
from fastnn.playground.settings import from_message


@pytest.fixture(scope="module")
def server():
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def ask(server):
    """Status, headers and body of a request; a header given as None is left out."""

    def asked(method, path, message=None, *, token=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
        body = message if isinstance(message, bytes | None) else json.dumps(message).encode()
        given = {"Origin": server.origins[0]} if method == "POST" else {}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection.putrequest(method, f"/{server.token if token is None else token}/{path}", skip_host="Host" in given)
        for name, value in given.items():
            if value is not None:
                connection.putheader(name, value)
        if body is not None and "Content-Length" not in given:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        found = answer.read()
        connection.close()
        return answer.status, dict(answer.getheaders()), found

    return asked


def test_the_page_and_what_it_needs_from_nowhere_else(ask):
    status, headers, page = ask("GET", "")
    assert status == 200
    assert headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    for name in served._TYPES:
        status, _, body = ask("GET", name)
        assert status == 200
        assert b"//" not in body.replace(b"http://www.w3.org/2000/svg", b"").replace(b"// ", b"")
    assert b'src="app.js"' in page


def test_a_frame(ask):
    message = {"tab": "one", "epochs": 3, "settings": {"layers": [3]}}
    status, _, body = ask("POST", "frame", message)
    frame = json.loads(body)
    assert status == 200
    assert 1 <= frame["epoch"] <= 3  # as there was time
    assert len(frame["points"]) == 500
    again = json.loads(ask("POST", "frame", {**message, "epochs": 1})[2])
    assert again["epoch"] == frame["epoch"] + 1
    assert "points" not in again


def test_an_answer_leaves_at_once_and_in_one_piece(server):
    """In two, the second waits for the first to be acknowledged: 40 ms a frame."""
    path = urlsplit(server.address).path
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=30) as connection:
        for _ in range(3):
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {server.hosts[0]}\r\n\r\n".encode())
            head, _, body = connection.recv(1 << 16).partition(b"\r\n\r\n")
            (length,) = (line.split()[1] for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
            assert len(body) == int(length)


def test_tabs_do_not_disturb_each_other(ask):
    for _ in range(4):
        alone = json.loads(ask("POST", "frame", {"tab": "a", "epochs": 1})[2])
    for _ in range(4):
        one = json.loads(ask("POST", "frame", {"tab": "b", "epochs": 1})[2])
        ask("POST", "frame", {"tab": "c", "epochs": 1, "settings": {"problem": "spiral"}})
    assert one["weights"] == alone["weights"]


def test_a_closed_tab_is_forgotten(ask, server):
    ask("POST", "frame", {"tab": "gone", "epochs": 1})
    before = len(server.tabs)
    assert ask("POST", "close", {"tab": "gone"})[0] == 200
    assert len(server.tabs) == before - 1
    assert ask("POST", "close", {"tab": "gone"})[0] == 200


def test_what_is_described_and_the_program(ask):
    described = json.loads(ask("POST", "described", {"address": "#problem=plane"})[2])
    assert described["values"]["loss"] == "mse"
    assert described["previews"]["points"].keys() == described["settings"]["problem"]["choices"].keys()
    script = json.loads(ask("POST", "script", {"settings": {"layers": [7]}, "epochs": 12})[2])["script"]
    assert "layers.Dense(7" in script
    assert "epochs=12" in script


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("token", ["", "wrong", "%00", "x" * 5000])
def test_without_the_token_there_is_nothing(ask, method, token):
    status, _, body = ask(
        method, "frame" if method == "POST" else "", {"tab": "x"} if method == "POST" else None, token=token
    )
    assert status == 403
    assert b"token" in body


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "localhost:1", None])
def test_other_hosts_are_refused(ask, host):
    assert ask("GET", "", Host=host)[0] in (400, 403)
    assert ask("POST", "frame", {"tab": "x"}, Host=host)[0] in (400, 403)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1", None])
def test_other_origins_are_refused(ask, server, origin):
    before = len(server.tabs)
    status, _, body = ask("POST", "frame", {"tab": "other origin"}, Origin=origin)
    assert status == 403
    assert b"Origin" in body
    assert len(server.tabs) == before


@pytest.mark.parametrize(
    ("message", "status", "said"),
    [
        (b"", 400, "no JSON"),
        (b"{", 400, "no JSON"),
        (b"[" * 9000, 400, "no JSON"),
        (b"\xff\xfe", 400, "no JSON"),
        ([1], 400, "no object"),
        ({}, 400, "tab: got"),
        ({"tab": ""}, 400, "tab: got 0 characters"),
        ({"tab": "x" * 65}, 400, "tab: got 65"),
        ({"tab": "x", "epochs": -1}, 400, "epochs: got -1"),
        ({"tab": "x", "epochs": 10**9}, 400, "epochs: got 1000000000"),
        ({"tab": "x", "epochs": 1.5}, 400, "epochs: got float"),
        ({"tab": "x", "seconds": -1}, 400, "seconds: got -1"),
        (b'{"tab": "x", "seconds": NaN}', 400, "seconds: got nan"),
        (b'{"tab": "x", "settings": {"rate": 1e999}}', 400, "rate: got inf"),
        ({"tab": "x", "restart": 1}, 400, "restart: got int"),
        ({"tab": "x", "settings": {"layers": [99]}}, 400, "layers: got 99"),
        (b" " * (MOST_BYTES + 1), 413, "wants at most"),
    ],
)
def test_bad_messages_are_answered_and_change_nothing(ask, server, message, status, said):
    before = len(server.tabs)
    found, _, body = ask("POST", "frame", message)
    assert found == status
    assert said in json.loads(body)["error"]
    assert len(server.tabs) == before
    assert ask("GET", "")[0] == 200


@pytest.mark.parametrize("length", ["-1", "1e3", "", None, "9" * 30])
def test_lengths_that_are_none(ask, length):
    assert ask("POST", "frame", b"{}", Content_Length=length)[0] == 411


def test_what_there_is_not(ask):
    assert ask("GET", "../settings.py")[0] == 404
    assert ask("GET", "frame")[0] == 404
    assert ask("POST", "index.html", {})[0] == 404
    assert ask("PUT", "frame", b"")[0] == 501


def test_tabs_make_room_and_are_forgotten():
    now = [0.0]
    tabs = Tabs(most=2, idle=10.0, clock=lambda: now[0])
    first, _ = tabs.of("a", from_message({}))
    now[0] = 5.0
    tabs.of("b", from_message({}))
    assert tabs.of("a", from_message({})) == (first, False)
    tabs.of("c", from_message({}))
    assert len(tabs) == 2
    assert tabs.of("a", from_message({}))[0] is first  # b asked longest ago
    now[0] = 12.0
    tabs.of("a", from_message({}))
    now[0] = 20.0
    tabs.forget_idle()
    assert len(tabs) == 1


def test_the_command(monkeypatch, capsys):
    monkeypatch.setattr(Server, "serve_forever", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    assert cli.main(["playground", "--no-browser", "problem=spiral"]) == 0
    said = capsys.readouterr().out
    assert "http://127.0.0.1:" in said
    assert "#problem=spiral" in said
    assert cli.main(["playground", "--no-browser", "problem=xro"]) == 2
    assert "argument STATE: problem: got 'xro'" in capsys.readouterr().err


def test_a_taken_port_is_said(server, capsys):
    assert cli.main(["playground", "--no-browser", "--port", str(server.server_port)]) == 2
    assert "use" in capsys.readouterr().err
