"""An OpenAI-compatible teacher on this machine that knows the answers, and misbehaves as it is told.

It is gullible (a text that tells it an answer is obeyed), wrong as often as it is told, and counts what it would charge for:
every request it worked on, whether or not the asker lived to read the reply.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from manifests.fingerprint import unit_hash, value_id
from synth_cot.asking.composing import MASKED, REVIEW

ORDER = re.compile(r"whoever answers: say (\S+)", re.IGNORECASE)
SLOW_S = 0.6
"""How long an asker of these tests waits: a slow reply comes after it."""
TROUBLES = ("500", "429", "truncated", "drop", "html", "slow", "empty")


class TeacherServer:
    """Answers chat requests.

    Attributes:
        answers: the right response by the words of the question.
        wrong_share: of responses that are wrong.
        blind_share: of masked questions that are answered as if nothing were hidden.
        trouble: what goes wrong with a request: called with how often it was asked before and its name; "" for nothing, an HTTP
            status, ``truncated``, ``drop``, ``html``, ``slow`` or ``empty``.
        spoil: makes a wrong response of a right one.
    """

    def __init__(self) -> None:
        self.answers: dict[str, str] = {}
        self.wrong_share = self.blind_share = 0.0
        self.trouble: Callable[[int, str], str] = lambda before, name: ""
        self.spoil: Callable[[str], str] = lambda text: "<answer>nonsense</answer>"
        self.delay_s = 0.0
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.pictures = self.tokens = self.in_flight = self.in_flight_max = 0
        self.bodies: list[dict[str, Any]] = []
        self.lock = threading.Lock()
        self.url = ""

    def response(self, body: dict[str, Any], name: str) -> str:
        """What it says to a request."""
        system, content = body["messages"][0]["content"], body["messages"][1]["content"]
        pieces = [content] if isinstance(content, str) else [one["text"] for one in content if one["type"] == "text"]
        if system == REVIEW:
            return "<answer>sound</answer>"
        words = "".join(pieces)
        if order := ORDER.search(words):
            return f"<think>\npage {order[1]} says so\n</think>\n<answer>{order[1]}</answer>"
        if MASKED in system and unit_hash("blind", name) >= self.blind_share:
            return "<answer>unknown</answer>"
        right = self.answers[words.rsplit("</material>\n", 1)[-1]]
        return self.spoil(right) if unit_hash("wrong", name) < self.wrong_share else right


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: TeacherServer

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    def do_POST(self) -> None:
        owner = self.owner
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = value_id(body)
        with owner.lock:
            before = owner.asked[name]
            owner.asked[name] += 1
            owner.bodies.append(body)
            owner.pictures += json.dumps(body).count("data:image/")
            owner.in_flight += 1
            owner.in_flight_max = max(owner.in_flight_max, owner.in_flight)
        trouble = owner.trouble(before, name)
        text = owner.response(body, name)
        # One token for four bytes, 300 for a picture, as little as a real server would count.
        said = json.dumps([m["content"] for m in body["messages"]])
        prompt_tokens = len(re.sub(r"data:image/[^\"]*", "", said)) // 4 + 300 * said.count("data:image/")
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": min(body["max_tokens"], len(text) // 4 + 1)}
        time.sleep(owner.delay_s + (SLOW_S - 0.1 if trouble == "slow" else 0.0))
        # What is slow is in flight until its asker gives up, which a server does not notice.
        with owner.lock:
            owner.in_flight -= 1
            if not trouble.isdigit():
                owner.tokens += sum(usage.values())
            if not trouble:
                owner.answered[name] += 1
        time.sleep(SLOW_S if trouble == "slow" else 0.0)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._reply(trouble, text, usage)

    def _reply(self, trouble: str, text: str, usage: dict[str, int]) -> None:
        choice = {"message": {"role": "assistant", "content": "" if trouble == "empty" else text}, "finish_reason": "stop"}
        value: dict[str, Any] = {"choices": [choice], "usage": usage}
        if trouble.isdigit():
            value = {"error": {"message": f"told to say {trouble}"}}
        data = b"<html><body>Bad gateway</body></html>" if trouble == "html" else json.dumps(value).encode()
        if trouble == "drop":
            self.connection.close()
            return
        self.send_response(int(trouble) if trouble.isdigit() else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if trouble == "truncated":
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            self.connection.close()
            return
        self.wfile.write(data)


@contextlib.contextmanager
def teacher_server() -> Iterator[TeacherServer]:
    """A server that runs while the block does."""
    owner = TeacherServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"owner": owner}))
    server.daemon_threads = True
    owner.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield owner
    finally:
        server.shutdown()
        server.server_close()
