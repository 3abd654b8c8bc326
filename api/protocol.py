"""uvicorn's protocol with limits: on headers, their size, number and time to arrive, and on the time answers take to go.

httptools refuses what smuggles requests (Content-Length beside Transfer-Encoding) and limits nothing else. A request that
would rather speak another protocol, as Java's client asks every time, is answered in this one (RFC 9110, section 7.8).
"""

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api.telemetry import unread

HEADER_BYTES = 64 * 1024
HEADERS = 100
HEADER_SECONDS = 10.0
# until a client has taken what waits for it, which is little: `api.service` hands over piece by piece
TAKING_SECONDS = 30.0


class LimitedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._in_headers, self._is_refused, self._comes_again = True, False, False
        self._received = self._parsed = 0
        self._arriving = self._others = 0  # bytes at hand, and those among which another request has ended
        self._deadline: asyncio.TimerHandle | None = None
        self._taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Headers have to follow."""
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing will."""
        self._disarm()
        self._taken()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """More waits for the client than it has taken: it gets some time, and is then cut off."""
        super().pause_writing()
        self._taking = self.loop.call_later(TAKING_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """It has taken nearly all of it."""
        self._taken()
        super().resume_writing()

    def _taken(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None

    def data_received(self, data: bytes) -> None:
        """Bytes of a request; in its headers they are counted."""
        if self._is_refused:
            return
        self._unset_keepalive_if_required()
        self._arriving, self._others = len(data), 0
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self._refuse(400)
        if self._in_headers and not self._is_refused and not self.transport.is_closing():
            self._received += len(data)
            if self._received > HEADER_BYTES:
                self._refuse(431)
            elif self._deadline is None:
                self._arm()

    def _parse(self, data: bytes) -> None:
        """Feed the parser, which takes what follows Upgrade for that other protocol: without it the request comes again.

        Raises HttpParserError.
        """
        while True:
            rest = b""
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as ended:
                rest = data[ended.args[0] :]
            if self._is_refused or not self._comes_again:
                return
            data = self._without_upgrade() + rest
            self._comes_again, self.parser = False, httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does

    def _without_upgrade(self) -> bytes:
        """The head of the request at hand."""
        line = b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        kept = (b"%b: %b" % header for header in self.headers if header[0] != b"upgrade")
        return b"\r\n".join((line, *kept, b"", b""))

    def on_message_begin(self) -> None:
        """The first bytes of a request."""
        super().on_message_begin()
        self._in_headers, self._received, self._parsed = True, -self._others, 0

    def on_url(self, url: bytes) -> None:
        """The request line counts as well."""
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        super().on_header(name, value)
        self._count(len(name) + len(value))

    def on_headers_complete(self) -> None:
        """All headers; a request that is refused goes no further, nor one that names no host (RFC 9112, section 3.2)."""
        self._in_headers = False
        self._disarm()
        self._comes_again = any(name == b"upgrade" for name, _ in self.headers) and self.parser.should_upgrade()
        if self._comes_again:
            return
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            self._refuse(400)
        if not self._is_refused:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Part of a body."""
        if not self._is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The end of a request."""
        self._others = self._arriving
        if not (self._is_refused or self._comes_again):
            super().on_message_complete()

    def _count(self, size: int) -> None:
        self._parsed += size
        if not self._is_refused and (self._parsed > HEADER_BYTES or len(self.headers) > HEADERS):
            self._refuse(431)

    def _arm(self) -> None:
        self._deadline = self.loop.call_later(HEADER_SECONDS, self._refuse, 408)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, status: int) -> None:
        self._disarm()
        self._is_refused = True
        if self.transport.is_closing():
            return
        identity, cycle = unread(status), self.cycle
        is_own = cycle is not None and cycle.more_body and not cycle.response_started
        if cycle is None or cycle.response_complete or is_own:  # never into the answer before it
            told = b"x-request-id: %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % identity
            self.transport.write(STATUS_LINE[status] + told)
        self.transport.close()
