"""An OpenAI-compatible server: a question posted until its answer is there, or cannot come."""

from __future__ import annotations

import email.utils
import http.client
import json
import os
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

KEY = "LIT_PRM_API_KEY"  # the environment variable; a key of its own, so that nobody else's goes to a server of ours
KEYS = {
    401: f"put the server's key into the environment variable {KEY}",
    403: f"put a key that may use this model into the environment variable {KEY}",
}
PASSING = frozenset({408, 425, 429, *range(500, 600)})  # statuses that may be others next time
LONGEST = 60.0  # seconds between two tries, unless the server asks for more
PATIENCE = 600.0  # seconds a server may ask for

Answer = dict[str, Any]
T = TypeVar("T")


class Passing(ValueError):
    """What may go well next time, after this many seconds at least."""

    def __init__(self, why: str, after: float = 0.0) -> None:
        super().__init__(why)
        self.after = after


class RequestRefused(ValueError):
    """What the server will not answer, now or later; ``status`` is its own."""

    def __init__(self, why: str, status: int) -> None:
        super().__init__(why)
        self.status = status


class _Absent(Passing):
    """Nothing was reached."""


class Endpoint:
    """Where an OpenAI-compatible server answers; any thread may ask.

    ``url`` without a path means the usual ``/v1``. A try that can get better (nothing listens, a connection breaks, no
    answer within ``timeout`` seconds, status 408, 425, 429 or 5xx, an answer cut short) is repeated up to ``tries``
    times after a growing, randomised pause, or the one the server asks for: ten to twenty minutes in all, in which a
    large model is loaded again. Anything else is an error at once. The key of the environment variable
    ``LIT_PRM_API_KEY`` goes to this server alone and into no message.
    """

    def __init__(self, url: str, *, timeout: float = 600.0, tries: int = 27, pause: float = 0.5) -> None:
        self.url = _address(url)
        self.timeout = timeout
        self.tries = tries
        self.pause = pause
        self.trouble = ""  # what went wrong last, for who watches
        self._key = _key()
        self._open = urllib.request.build_opener(_NoRedirects).open

    def models(self) -> list[str] | None:
        """What the server serves; None when it does not say. One that is not there, or wants a key, is an error."""
        try:
            found = self._once("/models", None)
        except _Absent as error:
            raise ValueError(f"no server at {self.url} ({error}); start it, or correct --server") from None
        except Passing:
            return None  # the first question meets it again, and waits
        except RequestRefused as error:
            if error.status in KEYS:
                raise
            return None  # not every server lists its models
        listed = found.get("data")
        return [str(m.get("id")) for m in listed if isinstance(m, dict)] if isinstance(listed, list) else None

    def post(self, path: str, body: Mapping[str, Any], read: Callable[[Answer], T], stop: threading.Event) -> T:
        """What ``read`` finds in the answer to ``body``, where it does not raise ``Passing``; ``stop`` ends pauses."""
        for number in range(1, self.tries + 1):
            try:
                return read(self._once(path, body))
            except Passing as error:
                self.trouble = str(error)
                if number < self.tries and stop.wait(max(self._backoff(number), error.after)):
                    break
        raise ValueError(
            f"{self.url}{path} failed {number} times in a row, at last: {self.trouble}; see what the server's log says "
            "and start the command again: it goes on where it was"
        )

    def _backoff(self, number: int) -> float:
        """Seconds; random, so that many who failed together do not come back together."""
        return min(self.pause * 2.0 ** (number - 1), LONGEST) * random.uniform(0.5, 1.0)

    def _once(self, path: str, body: Mapping[str, Any] | None) -> Answer:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(self.url + path, data, headers)
        try:
            with self._open(request, timeout=self.timeout) as reply:
                return _answer(reply.read())
        except urllib.error.HTTPError as error:
            with error:
                raise self._failure(error) from None
        except urllib.error.URLError as error:
            raise _Absent(f"{error.reason}") from None
        except (http.client.HTTPException, OSError) as error:
            raise Passing(f"{type(error).__name__}: {error}") from None

    def _failure(self, error: urllib.error.HTTPError) -> ValueError:
        said = self._said(error)
        if error.code in PASSING:
            return Passing(f"status {error.code}: {said}", _after(error.headers.get("Retry-After")))
        remedies = {404: "correct --server or the model's name", **KEYS}
        remedy = remedies.get(error.code, "correct what it names: no repetition would help")
        return RequestRefused(f"{error.url} answered {error.code}: {said}; {remedy}", error.code)

    def _said(self, error: urllib.error.HTTPError) -> str:
        """The server's words, which may repeat the key they refuse."""
        try:
            words = error.read(4000).decode(errors="replace").strip()
        except (http.client.HTTPException, OSError):
            words = ""
        try:
            told = json.loads(words)
            told = told.get("error", told) if isinstance(told, dict) else told
            words = str(told.get("message", told) if isinstance(told, dict) else told)
        except ValueError:
            pass  # plain text, as proxies answer
        words = words.replace(self._key, "***") if self._key else words
        where = error.headers.get("Location")
        return f"{words[:500] or error.reason}{f' (moved to {where})' if where else ''}"


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirected question would take the key to another host, and lose its body on the way."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _answer(data: bytes) -> Answer:
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError) as error:  # half an answer, or brackets without end
        raise Passing(f"an answer of {len(data)} bytes is no JSON ({error})") from None
    if not isinstance(answer, dict):
        raise Passing(f"the answer is a {type(answer).__name__}, not an object")
    return answer


def _after(header: str | None) -> float:
    """Seconds that ``Retry-After`` asks for, given as seconds or as a date."""
    if not header:
        return 0.0
    try:
        asked = float(header)
    except ValueError:
        try:
            asked = email.utils.parsedate_to_datetime(header).timestamp() - time.time()
        except (TypeError, ValueError):
            return 0.0
    return min(max(asked, 0.0), PATIENCE) if asked == asked else 0.0


def _address(url: str) -> str:
    """The URL that paths are appended to."""
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and parts.hostname and not parts.query and not parts.fragment
        _ = parts.port
    except ValueError:
        fits = None
    if not fits:
        raise ValueError(f"--server {url!r} is not like http://localhost:8000; give the server's base URL")
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"--server holds a name or password; leave it out and put the key into {KEY}")
    path = parts.path.rstrip("/") or "/v1"
    return f"{parts.scheme}://{parts.netloc}{path}"


def _key() -> str:
    key = os.environ.get(KEY, "")
    if not all("!" <= c <= "~" for c in key):
        raise ValueError(f"{KEY} holds a character that no header may have (a line break, a blank); set it again")
    return key
