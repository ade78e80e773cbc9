"""A token introspection endpoint in a thread. Source: RFC 7662."""

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from tests.support.listening import LOOPBACK


@dataclass(slots=True)
class Introspection:
    """What the endpoint answers, and what it was asked."""

    port: int
    answers: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """By token; of others it says that they are not active."""
    asked: list[str] = field(default_factory=list)
    status: int = 200

    @property
    def url(self) -> str:
        return f"http://mailserver:secret@{LOOPBACK}:{self.port}/introspect"


@contextlib.contextmanager
def introspection() -> Iterator[Introspection]:
    """An endpoint until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            (token,) = form["token"]
            running.asked.append(token)
            body = json.dumps(running.answers.get(token, {"active": False})).encode()
            self.send_response(running.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Nothing: a token may be in the line."""

    with ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        running = Introspection(server.server_port)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield running
        finally:
            server.shutdown()
            thread.join()
