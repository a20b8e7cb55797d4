"""Client of an OpenAI-compatible server: posts a request until the answer arrives or cannot arrive."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

KEY = "LIT_PRM_API_KEY"  # an own environment variable, so that no other service's key goes to this server
KEYS = {
    401: f"put the server's key into the environment variable {KEY}",
    403: f"put a key that may use this model into the environment variable {KEY}",
}
PASSING = frozenset({408, 425, 429, *range(500, 600)})  # statuses that may differ in the next try
LONGEST = 60.0  # seconds between two tries, unless the server asks for more
PATIENCE = 600.0  # seconds that a server may ask for
LARGEST = 64 * 2**20  # bytes of an answer

Answer = dict[str, Any]
T = TypeVar("T")


class Passing(ValueError):
    """A failure that the next try may not meet; ``after`` is how many seconds to wait at least."""

    def __init__(self, why: str, after: float = 0.0) -> None:
        super().__init__(why)
        self.after = after


class RequestRefused(ValueError):
    """A request that the server refuses for good, with the HTTP ``status`` of the refusal."""

    def __init__(self, why: str, status: int) -> None:
        super().__init__(why)
        self.status = status


class _Unreachable(Passing):
    """No connection to the server could be made."""


class Endpoint:
    """Address of an OpenAI-compatible server. Threads may share it.

    A ``url`` without a path gets the usual ``/v1``. A try fails for now if there is no connection, the connection
    breaks, the whole answer is not there after ``timeout`` seconds, the status is 408, 425, 429 or 5xx, or the
    answer is incomplete. It is repeated up to ``tries`` times after a growing, random pause, or the pause that the
    server asks for. Together the pauses last ten to twenty minutes, in which a server can load a large model again.
    Every other failure is an error at once. The key in the environment variable ``LIT_PRM_API_KEY`` goes to this
    server only: redirections are not followed, and no error message holds the key.
    """

    def __init__(self, url: str, *, timeout: float = 600.0, tries: int = 27, pause: float = 0.5) -> None:
        from lit_prm.generation.connections import connections  # imports urllib3

        self.url = _address(url)
        self.timeout = timeout
        self.tries = tries
        self.pause = pause
        self.trouble = ""  # the last failure, for a progress bar
        self._key = _key()
        self._connections = connections(self.url)

    def models(self) -> list[str] | None:
        """Names of the models that the server offers; None if it does not list them.

        Raises ValueError if no server is reachable, and RequestRefused if it wants a key.
        """
        try:
            answer = self._send("GET", "/models")
        except _Unreachable as error:
            raise ValueError(f"There is no server at {self.url} ({error}). Start it, or correct --server.") from None
        except Passing:
            return None  # the first request meets the failure again, and is repeated
        except RequestRefused as error:
            if error.status in KEYS:
                raise
            return None  # not every server lists its models
        models = answer.get("data")
        return (
            [_printable(str(m.get("id"))) for m in models if isinstance(m, dict)] if isinstance(models, list) else None
        )

    def post(self, path: str, body: Mapping[str, Any], read: Callable[[Answer], T], stop: threading.Event) -> T:
        """``read`` of the answer to ``body``; a ``Passing`` that ``read`` raises repeats the request.

        Setting ``stop`` ends the pauses. Raises ValueError after the last try.
        """
        for number in range(1, self.tries + 1):
            try:
                return read(self._send("POST", path, body))
            except Passing as error:
                self.trouble = str(error)
                # random, so that requests that failed together do not return together
                pause = min(self.pause * 2.0 ** (number - 1), LONGEST) * random.uniform(0.5, 1.0)
                if number < self.tries and stop.wait(max(pause, error.after)):
                    break
        raise ValueError(
            f"{self.url}{path} failed {number} times in a row. The last failure: {self.trouble}. Read the server's log "
            "and start the command again: it keeps the samples that it has."
        )

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        """The answer to one try."""
        from urllib3 import Timeout
        from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ProxyError, SSLError

        headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        until = time.monotonic() + self.timeout
        try:
            reply = self._connections.request(
                method, self.url + path, json=body, headers=headers, timeout=Timeout(total=self.timeout),
                redirect=False, retries=False, preload_content=False,
            )  # fmt: skip
            data = _whole(reply, until, self.timeout)
        except (ConnectTimeoutError, NewConnectionError, ProxyError, SSLError) as error:
            raise _Unreachable(str(error)) from None
        except HTTPError as error:
            raise Passing(f"{type(error).__name__}: {error}") from None
        if reply.status >= 300:
            raise self._failure(reply, data, path)
        return _answer(data)

    def _failure(self, reply: BaseHTTPResponse, data: bytes, path: str) -> ValueError:
        message = self._message(reply, data)
        if reply.status in PASSING:
            return Passing(f"status {reply.status}: {message}", _seconds(reply.headers.get("Retry-After")))
        remedies = {404: "correct --server or the model's name", **KEYS}
        remedy = remedies.get(reply.status, "correct the request: repeating it would not help")
        return RequestRefused(f"{self.url}{path} answered {reply.status}: {message}; {remedy}", reply.status)

    def _message(self, reply: BaseHTTPResponse, data: bytes) -> str:
        """The server's error message without the key, which some servers repeat, and without control characters."""
        message = data[:4000].decode(errors="replace").strip()
        try:
            error = json.loads(message)
            error = error.get("error", error) if isinstance(error, dict) else error
            message = str(error.get("message", error) if isinstance(error, dict) else error)
        except (ValueError, RecursionError):
            pass  # plain text, as proxies answer
        target = reply.headers.get("Location")
        told = [message or str(reply.reason), *([f"(moved to {target})"] if target else [])]
        return " ".join(_printable(part.replace(self._key, "***") if self._key else part)[:500] for part in told)


def _whole(reply: BaseHTTPResponse, until: float, seconds: float) -> bytes:
    """All bytes of an answer. Raises Passing if they are not there at the time ``until``."""
    data = bytearray()
    try:
        while part := reply.read1(2**16):
            data += part
            if len(data) > LARGEST:
                raise RequestRefused(f"the answer has more than {LARGEST:,} bytes. Ask for fewer tokens", reply.status)
            if time.monotonic() > until:
                raise Passing(f"the whole answer was not there after {seconds:g} s, but {len(data)} bytes were")
    except BaseException:
        reply.close()  # the rest of the answer must not be taken for that of the next request
        raise
    reply.release_conn()
    return bytes(data)


def _printable(text: str) -> str:
    """The text with a blank for each control character: a server must not send commands to the terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def _answer(data: bytes) -> Answer:
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError) as error:  # half an answer, or brackets without end
        raise Passing(f"an answer of {len(data)} bytes is not JSON ({error})") from None
    if not isinstance(answer, dict):
        raise Passing(f"the answer is a {type(answer).__name__}, not an object")
    return answer


def _seconds(retry_after: str | None) -> float:
    """Seconds that the header ``Retry-After`` asks for, as a number or a date; 0 without a readable one."""
    from urllib3.exceptions import InvalidHeader
    from urllib3.util import Retry

    with suppress(ValueError):  # fractions, which some servers send and urllib3 refuses
        seconds = float(retry_after or 0)
        return min(seconds, PATIENCE) if seconds > 0 else 0.0
    try:
        return min(Retry().parse_retry_after(retry_after or "0"), PATIENCE)
    except InvalidHeader:
        return 0.0


def _address(url: str) -> str:
    """The base URL of the API."""
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and parts.hostname and not parts.query and not parts.fragment
        _ = parts.port, (parts.hostname or "").encode("idna")  # both raise where no request could be sent
    except ValueError:
        fits = None
    if not fits:
        raise ValueError(f"--server {url!r} is not a URL such as http://localhost:8000. Give the server's base URL.")
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"--server holds a name or password. Leave it out and put the key into {KEY}.")
    path = parts.path.rstrip("/") or "/v1"
    return f"{parts.scheme}://{parts.netloc}{path}"


def _key() -> str:
    key = os.environ.get(KEY, "")
    if not all("!" <= c <= "~" for c in key):
        raise ValueError(f"{KEY} holds a character that no header may have (a line break or a blank). Set it again.")
    return key
