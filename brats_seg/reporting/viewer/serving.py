"""A web server for one person on this machine: loopback only, behind a random token, and without any file system.

A path of a request is looked up among the contents that the caller offers; nothing else exists.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

from brats_seg.errors import UsageError

__all__ = ["Content", "Server"]

_HOST = "127.0.0.1"
_HOST_NAMES = (_HOST, "localhost")
"""Names that a request may be sent to; any other is that of a page elsewhere whose name resolves to this machine."""

_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True)
class Content:
    """What a path is answered with."""

    body: bytes
    media_type: str


class Server:
    """Serves `find(path)` at `address` + path until it is closed; a path for which it gives None is not found.

    Answers 403 to a wrong token and to a Host other than this machine's, 404 to whatever is not offered. Any port may
    stand in Host, so that the page can be reached through a forwarded port (`ssh -L`).
    """

    def __init__(self, find: Callable[[str], Content | None], port: int = 0) -> None:
        """Take the port; 0 takes any that is free.

        Raises:
            UsageError: the port is in use, or may not be taken.
        """
        self.token = secrets.token_urlsafe(16)
        handler = type("_Handler", (_Handler,), {"find": staticmethod(find), "token": self.token})
        try:
            self._server = ThreadingHTTPServer((_HOST, port), handler)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UsageError(
                f"--port {port}: {reason}; choose another, or leave --port out to take a free one"
            ) from error
        self._server.daemon_threads = True

    @property
    def port(self) -> int:
        """The port in use."""
        return int(self._server.server_address[1])

    @property
    def address(self) -> str:
        """What to open in a browser, token included; ends in a slash."""
        return f"http://{_HOST}:{self.port}/{self.token}/"

    def serve(self) -> None:
        """Answer requests until `stop` is called from another thread, or the process is interrupted."""
        self._server.serve_forever(poll_interval=0.2)

    def stop(self) -> None:
        """End `serve`, and give the port back."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "brats_seg"
    sys_version = ""
    timeout = 60
    find: Callable[[str], Content | None]
    token: str

    def do_GET(self) -> None:
        """Answer a request."""
        self._answer(*self._look_up())

    do_HEAD = do_GET  # noqa: N815

    def _look_up(self) -> tuple[HTTPStatus, Content]:
        if re.sub(r":\d*$", "", self.headers.get("Host", "")) not in _HOST_NAMES:
            return _refusal(HTTPStatus.FORBIDDEN, "this server answers to 127.0.0.1 only")
        path = unquote(self.path.split("?")[0])
        if ".." in path.split("/"):
            return _refusal(HTTPStatus.NOT_FOUND, "not found")
        token, _, rest = path.removeprefix("/").partition("/")
        if not secrets.compare_digest(token.encode(), self.token.encode()):
            return _refusal(HTTPStatus.FORBIDDEN, "wrong token: open the address that the command printed")
        content = self.find(rest)
        return (HTTPStatus.OK, content) if content else _refusal(HTTPStatus.NOT_FOUND, "not found")

    def _answer(self, status: HTTPStatus, content: Content) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", content.media_type)
            self.send_header("Content-Length", str(len(content.body)))
            for name, value in _HEADERS.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content.body)
        except ConnectionError:  # the page was closed meanwhile
            self.close_connection = True

    def log_message(self, format: str, *arguments: object) -> None:
        """Keep quiet: requests are nobody's news."""


def _refusal(status: HTTPStatus, reason: str) -> tuple[HTTPStatus, Content]:
    return status, Content(reason.encode(), "text/plain; charset=utf-8")
