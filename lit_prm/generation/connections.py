"""Connections to a server that stay open for the next request; the headers of an answer have one time limit."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, ProxyManager, make_headers
from urllib3.connection import HTTPConnection, HTTPSConnection

CONNECTIONS = 256  # kept open for the next request


class _Bounded(HTTPConnection):
    """Its timeout bounds all headers of an answer together.

    That of urllib3 bounds each read, so a server that sends a byte now and then has no limit.
    """

    def getresponse(self) -> Any:
        late = threading.Event()
        timer = threading.Timer(float(self.timeout or 0), self._hang_up, [late])
        timer.start()
        reply = None
        try:
            reply = super().getresponse()
        except Exception:
            if not late.is_set():
                raise
        finally:
            timer.cancel()
        if reply is not None and not late.is_set():
            return reply
        if reply is not None:
            reply.close()
        raise TimeoutError("the headers of the answer were not there in time")

    def _hang_up(self, late: threading.Event) -> None:
        late.set()
        with suppress(OSError):
            self.sock.settimeout(0)  # a socket that is shut down still hands over what arrives
            self.sock.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads


class _BoundedTLS(_Bounded, HTTPSConnection):
    pass


class Connections(HTTPConnectionPool):
    ConnectionCls = _Bounded


class ConnectionsTLS(HTTPSConnectionPool):
    ConnectionCls = _BoundedTLS


def connections(url: str) -> PoolManager:
    """Connections that threads share, through the proxy that the environment names for this server, if any."""
    parts = urlsplit(url)
    named = None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)
    if not named:
        return _bounded(PoolManager(maxsize=CONNECTIONS))
    proxy = urlsplit(named if "://" in named else f"http://{named}")
    user, _, host = proxy.netloc.rpartition("@")
    if proxy.scheme not in ("http", "https") or not host:
        raise ValueError(f"{parts.scheme}_proxy names {proxy.scheme}://{host}, which is no HTTP proxy. Correct it.")
    headers = make_headers(proxy_basic_auth=unquote(user)) if user else None  # urllib3 ignores a name in the address
    return _bounded(ProxyManager(f"{proxy.scheme}://{host}", maxsize=CONNECTIONS, proxy_headers=headers))


def _bounded(manager: PoolManager) -> PoolManager:
    manager.pool_classes_by_scheme = {"http": Connections, "https": ConnectionsTLS}
    return manager
