from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator

import pytest

from brats_seg.errors import UsageError
from brats_seg.reporting.viewer.serving import Content, Server

PAGES = {"": Content(b"page", "text/html"), "a b.txt": Content("h\u00e9".encode(), "text/plain")}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    one = Server(PAGES.get)
    thread = threading.Thread(target=one.serve)
    thread.start()
    yield one
    one.stop()
    thread.join()


def ask(server: Server, path: str, method: str = "GET", host: str | None = None) -> tuple[int, bytes]:
    """Status and body; the path goes out as it is, which URL libraries would not do with `..`."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request(method, path, headers={} if host is None else {"Host": host})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


def test_what_is_offered_is_answered(server):
    assert server.address == f"http://127.0.0.1:{server.port}/{server.token}/"
    assert ask(server, f"/{server.token}/") == (200, b"page")
    assert ask(server, f"/{server.token}/a%20b.txt?x=1") == (200, "h\u00e9".encode())
    assert ask(server, f"/{server.token}/", "HEAD") == (200, b"")


def test_a_file_that_is_not_listed_is_not_found(server):
    assert ask(server, f"/{server.token}/b.txt")[0] == 404


@pytest.mark.parametrize("path", ["/", "/a%20b.txt", "/wrong/", "/wrong/a%20b.txt", "/%C3%A9/"])
def test_a_wrong_token_is_forbidden(server, path):
    assert ask(server, path)[0] == 403
    assert ask(server, f"/{server.token[:-1]}/")[0] == 403


@pytest.mark.parametrize("path", ["../", "../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "x/../a%20b.txt", ".."])
def test_a_path_with_two_dots_is_not_found(server, path):
    assert ask(server, f"/{server.token}/{path}")[0] == 404
    assert ask(server, f"/{path}")[0] == 404


@pytest.mark.parametrize("host", ["example.com", "example.com:80", "127.0.0.1.example.com", "", "[::1]", "0.0.0.0"])
def test_another_host_is_forbidden(server, host):
    assert ask(server, f"/{server.token}/", host=host)[0] == 403


def test_a_forwarded_port_and_localhost_are_this_machine(server):
    assert ask(server, f"/{server.token}/", host="localhost:9999")[0] == 200
    assert ask(server, f"/{server.token}/", host="127.0.0.1:1")[0] == 200


def test_nothing_but_reading_is_answered(server):
    for method in ("POST", "PUT", "DELETE"):
        assert ask(server, f"/{server.token}/", method)[0] == 501


def test_the_server_listens_on_the_loopback_address_alone(server):
    assert server._server.server_address[0] == "127.0.0.1"


def test_tokens_differ_and_are_long():
    tokens = set()
    for _ in range(3):
        one = Server(PAGES.get)
        tokens.add(one.token)
        one._server.server_close()
    assert len(tokens) == 3
    assert min(map(len, tokens)) >= 20


def test_a_port_in_use_is_one_line():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=rf"^--port {port}: address already in use; choose another[^\n]*$"):
            Server(PAGES.get, port)
