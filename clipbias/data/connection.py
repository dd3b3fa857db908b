"""One HTTP request with limits that a hostile or stuck server cannot stretch: hosts, headers' time, speed, size."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from email.message import Message
from typing import IO, Any

from clipbias.errors import UserError

CONNECT = 30.0
"""Seconds without a byte, and in all until the headers are read."""
WINDOW = 60.0
"""Seconds in which at least `LEAST` bytes have to come."""
LEAST = 64 << 10
TOTAL = 72 * 3600.0
"""Seconds that one file may take."""
_CHUNK = 1 << 20


def check_url(url: str, hosts: Sequence[str] = ()) -> None:
    """Refuse an address that is not https, or leads to a host that is not named.

    Args:
        url: https, or http to this machine itself.
        hosts: where it may lead: names, or ends of names with a leading dot; empty for anywhere.

    Raises:
        UserError: it may not be opened.
    """
    parts = urllib.parse.urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        raise UserError(f"{url[:200]}: only https is used for downloads; not opened")
    if hosts and not any(host == name.lstrip(".") or (name.startswith(".") and host.endswith(name)) for name in hosts):
        raise UserError(f"{url[:200]}: a redirect to a host that is not among {', '.join(hosts)}; not followed")


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = 5

    def __init__(self, hosts: Sequence[str]) -> None:
        self.hosts = hosts

    def redirect_request(
        self, request: urllib.request.Request, file: IO[bytes], code: int, text: str, headers: Message, url: str
    ) -> urllib.request.Request | None:
        check_url(url, self.hosts)
        return super().redirect_request(request, file, code, text, headers, url)  # type: ignore[arg-type]


class _Deadline:
    """Shuts a connection whose headers are not here in time: a byte now and then resets a socket's own timeout."""

    sock: socket.socket | None
    _timer: threading.Timer | None = None
    _late = False

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        self._timer = threading.Timer(CONNECT, self._shut)
        self._timer.daemon = True
        self._timer.start()

    def _shut(self) -> None:
        self._late = True
        if self.sock is not None:
            with suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)

    def getresponse(self) -> http.client.HTTPResponse:
        try:
            response = super().getresponse()  # type: ignore[misc]
            # Headers that end with the connection are taken for whole by http.client.
            if self._late:
                raise TimeoutError(f"no headers in {CONNECT:g} seconds")
            return response
        finally:
            if self._timer is not None:
                self._timer.cancel()


class _Plain(_Deadline, http.client.HTTPConnection):
    pass


class _Secure(_Deadline, http.client.HTTPSConnection):
    pass


class _PlainHandler(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Plain, request)


class _SecureHandler(urllib.request.HTTPSHandler):
    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Secure, request, context=getattr(self, "_context", None))


def connect(url: str, headers: dict[str, str], hosts: Sequence[str]) -> Any:
    """The answer to a GET, its headers read, within `CONNECT` seconds; a context manager.

    Args:
        url: see `check_url`.
        headers: of the request.
        hosts: where redirects may lead, beside the host of ``url``.

    Raises:
        UserError: the address, or one that it redirects to, is refused.
        HTTPError, URLError, HTTPException, OSError: as urllib.
    """
    check_url(url)
    host = urllib.parse.urlsplit(url).hostname or ""
    opener = urllib.request.build_opener(_PlainHandler, _SecureHandler, _Redirects((host, *hosts)))
    return opener.open(urllib.request.Request(url, headers=headers), timeout=CONNECT)


def body(response: http.client.HTTPResponse, clock: Callable[[], float] = time.monotonic) -> Iterator[bytes]:
    """The pieces of an answer's body as they come.

    Args:
        response: as `connect` gives it.
        clock: seconds.

    Raises:
        TimeoutError: fewer than `LEAST` bytes came in `WINDOW` seconds, or it took longer than `TOTAL`.
    """
    began = since = clock()
    got = 0
    while chunk := response.read1(_CHUNK):
        yield chunk
        got += len(chunk)
        now = clock()
        if now - began > TOTAL:
            raise TimeoutError(f"not done after {TOTAL / 3600:g} hours")
        if now - since > WINDOW:
            if got < LEAST:
                raise TimeoutError(f"{got:,} bytes in {now - since:.0f} seconds")
            since, got = now, 0
