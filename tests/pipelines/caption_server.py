"""An OpenAI-compatible endpoint on this machine that misbehaves as it is told, and remembers what it was asked."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from manifests.fingerprint import value_id


def said_about(body: dict[str, Any]) -> str:
    """What the server answers when nothing goes wrong: a function of the request."""
    return f"A thing called {value_id(body)[:12]} is shown."


class CaptionServer:
    """Answers chat requests.

    Attributes:
        fault: called with the number of times this very request was asked before and its body; names what goes wrong: ``""``,
            an HTTP status, ``truncated``, ``html``, ``no choices``, ``empty``, ``length``, ``slow``, ``trickle`` or ``drop``.
        asked: how often each request came, by its content; a call counts when it arrives.
        in_flight_max: most requests that were answered at the same time.
    """

    def __init__(self) -> None:
        self.fault: Callable[[int, dict[str, Any]], str] = lambda before, body: ""
        self.delay_s = 0.0
        self.asked: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []
        self.bodies: list[dict[str, Any]] = []
        self.arrivals: list[float] = []
        self.in_flight = self.in_flight_max = 0
        self.lock = threading.Lock()
        self.url = ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: CaptionServer

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    def do_POST(self) -> None:
        owner = self.owner
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = value_id(body)
        with owner.lock:
            before = owner.asked[name]
            owner.asked[name] += 1
            owner.headers.append(dict(self.headers))
            owner.bodies.append(body)
            owner.arrivals.append(time.monotonic())
            owner.in_flight += 1
            owner.in_flight_max = max(owner.in_flight_max, owner.in_flight)
        time.sleep(owner.delay_s)
        fault = owner.fault(before, body)
        if fault == "slow":
            time.sleep(3.0)
        # No longer in flight before it is sent: the asker may be quicker to ask again than this thread to count.
        with owner.lock:
            owner.in_flight -= 1
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._reply(fault, body)

    def _reply(self, fault: str, body: dict[str, Any]) -> None:
        if self.path != "/v1/chat/completions":
            fault = "404"
        choice = {"message": {"role": "assistant", "content": said_about(body)}, "finish_reason": "stop"}
        value: dict[str, Any] = {"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}}
        status, headers = 200, {"Content-Type": "application/json"}
        if fault.isdigit():
            status, value = int(fault), {"error": {"message": f"told to say {fault}"}}
            headers["Retry-After"] = "0"
        elif fault == "no choices":
            value = {"choices": []}
        elif fault == "empty":
            choice["message"] = {"role": "assistant", "content": "  "}
        elif fault == "length":
            choice["finish_reason"] = "length"
        data = b"<html><body>Bad gateway</body></html>" if fault == "html" else json.dumps(value).encode()
        if fault == "drop":
            self.connection.close()
            return
        self.send_response(status)
        for key, text in headers.items():
            self.send_header(key, text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if fault == "truncated":
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            self.connection.close()
            return
        if fault == "trickle":
            for byte in data[:-1]:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(0.2)
        self.wfile.write(data)


@contextlib.contextmanager
def caption_server() -> Iterator[CaptionServer]:
    """A server that runs while the block does."""
    owner = CaptionServer()
    handler = type("Handler", (_Handler,), {"owner": owner})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    owner.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield owner
    finally:
        server.shutdown()
        server.server_close()
