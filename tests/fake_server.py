"""An OpenAI-compatible server whose answers depend on the request alone, and which may misbehave on the way."""

from __future__ import annotations

import hashlib
import json
import random
import re
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

TROUBLES = ("timeout", "drip", "drop", "half", "429", "500", "cut json", "deep json", "no choices")
SLOW = 0.6  # seconds: more than the clients of the tests wait


class FakeServer(ThreadingHTTPServer):
    """Answers `a + b` right or wrong, by a hash of prompt and seed; the first tries of every request may fail.

    How often, and in which ways, is drawn from a hash too. ``refusal`` is a status that everything gets, with
    ``words``; longer requests than ``longest`` characters get status 400; ``most`` bounds the choices of an answer;
    ``pause`` are seconds that every answer takes.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, port: int = 0, *, troubles: Sequence[str] = (), refusal: int = 0, words: str = "no", most: int = 99,
        pause: float = 0.0, models: Sequence[str] | None = ("fake",), longest: int = 10**6,
    ) -> None:  # fmt: skip
        super().__init__(("127.0.0.1", port), Handler)
        self.troubles = tuple(troubles)
        self.refusal, self.words, self.most, self.pause, self.models = refusal, words, most, pause, models
        self.longest = longest
        self.elsewhere = "http://elsewhere.invalid/"
        self.tries: Counter[str] = Counter()
        self.answered: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.proxy_keys: set[str | None] = set()
        self.met: Counter[str] = Counter()
        self.under_way = self.widest = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> FakeServer:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are expected."""

    def trouble_of(self, body: str) -> str | None:
        """What this try of a request meets."""
        with self.lock:
            number = self.tries[body]
            self.tries[body] += 1
        rng = random.Random(body)
        fates = [rng.choice(self.troubles) for _ in range(rng.randint(0, 3))] if self.troubles else []
        return fates[number] if number < len(fates) else None


def answer(body: dict[str, Any], most: int) -> dict[str, Any]:
    said = body["prompt"] if "prompt" in body else body["messages"][-1]["content"]
    choices = [_choice(body, said, k) for k in range(min(body.get("n", 1), most))]
    return {"choices": choices[::-1], "usage": {"completion_tokens": 7}}  # the index counts, not the order


def _choice(body: dict[str, Any], said: str, k: int) -> dict[str, Any]:
    drawn = hashlib.sha256(json.dumps([said, body["seed"], body["temperature"], k]).encode()).digest()
    numbers = [int(x) for x in re.findall(r"\d+", said)]
    total = sum(numbers) + (drawn[0] % 2)
    text = f"Let me see ({drawn.hex()[:6]}).\n\nThe answer is \\boxed{{{total}}}."
    cut = drawn[1] % 4 == 0
    reason = "length" if cut else "stop"
    text = text[: drawn[2] % 40] if cut else text
    said_by = {"message": {"role": "assistant", "content": text}} if "messages" in body else {"text": text}
    return {"index": k, "finish_reason": reason, **said_by}


class Handler(BaseHTTPRequestHandler):
    server: FakeServer

    def log_message(self, format: str, *args: Any) -> None: ...

    def do_GET(self) -> None:
        self.server.keys.add(self.headers.get("Authorization"))
        self.server.proxy_keys.add(self.headers.get("Proxy-Authorization"))
        listed = self.server.models
        if self.server.refusal:
            self._refuse(self.server.refusal)
        elif listed is None:
            self._refuse(404)
        else:
            self._send(200, {"data": [{"id": name} for name in listed]})

    def do_POST(self) -> None:
        server = self.server
        with server.lock:
            server.under_way += 1
            server.widest = max(server.widest, server.under_way)
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        time.sleep(server.pause)
        with server.lock:  # before the answer, behind which the client may ask again at once
            server.under_way -= 1
        self._answer(text)

    def _answer(self, text: str) -> None:
        server = self.server
        server.keys.add(self.headers.get("Authorization"))
        server.proxy_keys.add(self.headers.get("Proxy-Authorization"))
        if server.refusal:
            self._refuse(server.refusal)
            return
        if server.longest < len(text):
            self._refuse(400)
            return
        trouble = server.trouble_of(text)
        if trouble:
            server.met[trouble] += 1
            self._misbehave(trouble, text)
            return
        body = json.loads(text)
        with server.lock:
            server.answered.append({"path": self.path, **body})
        self._send(200, answer(body, server.most))

    def _refuse(self, status: int) -> None:
        words = {"error": {"message": self.server.words}}
        self._send(status, words, {"Location": self.server.elsewhere})

    def _misbehave(self, trouble: str, text: str) -> None:
        if trouble == "timeout":
            time.sleep(SLOW)
        elif trouble == "429":
            self._send(429, {"error": "slow down"}, {"Retry-After": "0.05"})
        elif trouble == "500":
            self._send(500, {"error": {"message": "out of luck"}})
        elif trouble == "no choices":
            self._send(200, {"choices": []})
        elif trouble == "cut json":
            self._raw(200, json.dumps(answer(json.loads(text), self.server.most)).encode()[:-9])
        elif trouble == "deep json":
            self._raw(200, b'{"choices": ' + b"[" * 100_000)
        elif trouble == "half":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"choices": [')
        elif trouble == "drip":  # always too soon for a time limit on each read
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            until = time.monotonic() + 2 * SLOW
            with suppress(OSError):
                while time.monotonic() < until:
                    self.wfile.write(b" ")
                    time.sleep(0.05)
        if trouble in ("timeout", "drip", "drop", "half"):
            self.close_connection = True
            with suppress(OSError):  # the client may have hung up
                self.connection.shutdown(socket.SHUT_RDWR)

    def _send(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        self._raw(status, json.dumps(value).encode(), headers)

    def _raw(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


if __name__ == "__main__":  # python -m tests.fake_server PAUSE TROUBLE ...
    fake = FakeServer(troubles=sys.argv[2:], pause=float(sys.argv[1]))
    print(fake.url, flush=True)
    fake.serve_forever()
