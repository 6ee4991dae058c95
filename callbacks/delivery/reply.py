"""One HTTP/1 reply, parsed by llhttp with a few stricter rules.

The head decides the outcome; a faulty body does not change it. Does no I/O: bytes are fed in.

llhttp is strict (RFC 9112) and rejects what request smuggling relies on: contradictory lengths,
folded fields, a space before a colon. The status line and the well-formed fields of such a head,
e.g. `Retry-After`, still count. Refused here is what llhttp accepts: empty lines before the reply,
other protocols, statuses outside 200 to 599, transfer codings that hide another one, and heads
and interim replies without end.
"""

from __future__ import annotations

import re
from typing import Final

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserUpgrade,
    HttpResponseParser,
)

from callbacks.model import CallbacksError

MAX_HEAD_BYTES: Final = 65_536
MAX_FIELDS: Final = 100
MAX_INTERIM: Final = 8  # 1xx replies before the final one

_NO_STATUS_LINE: Final = "the reply does not begin with an HTTP/1 status line"
_START: Final = b"HTTP/1."
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([0-9]) ([1-5][0-9]{2})(?: ([^\r\n]*))?\r?\n")
_FIELD: Final = re.compile(rb"^([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\r\n]*)", re.MULTILINE)
_BLANK_LINE: Final = re.compile(rb"\r?\n\r?\n")
_BODILESS: Final = {204, 304}  # whatever they declare
_TIMEOUT: Final = re.compile(r"(?:^|[\s,])timeout\s*=\s*([0-9]{1,9})\s*(?=,|$)")


class BadReply(CallbacksError):
    """The bytes received are not an HTTP/1 reply."""


class HeadTooLarge(CallbacksError):
    """A head over `MAX_HEAD_BYTES` or of more than `MAX_FIELDS` fields."""


class Reply:
    """A reply as it comes in; interim replies (1xx) before it are dropped.

    Once `has_head`, `status`, `reason` and `fields` (lower-case names, values in order) are set.
    `is_over`: no more is expected. `fault`: what is wrong with fields or body. `may_keep`: as far
    as is known, the connection may be reused after it. `body` stops growing once it is longer
    than `body_limit` bytes.
    """

    def __init__(self, body_limit: int = 0) -> None:
        self.status = 0
        self.reason = ""
        self.fields: dict[str, list[str]] = {}
        self.body = bytearray()
        self.came_at = 0.0  # when the head was complete, on the monotonic clock
        self.fault = ""
        self.has_head = self.is_over = self.may_keep = False
        self._body_limit = body_limit
        self._interim = 0
        self._unread = bytearray()  # an incomplete head
        self._searched = 0
        self._parser: HttpResponseParser | None = None

    def feed(self, data: bytes) -> None:
        """Take the next bytes; raises BadReply and HeadTooLarge until the head is complete."""
        if not self.has_head:
            data = self._take_heads(data)
        if data:
            self._parse(data)

    def end(self) -> None:
        """Take the end of the connection; raises ConnectionResetError if the head is incomplete."""
        if not self.has_head:
            raise ConnectionResetError("the connection was closed before the reply was complete")
        until_close = not self.fields.keys() & {"content-length", "transfer-encoding"}
        self._break_off("" if until_close else "the connection was closed within the body")

    def skip_body(self) -> None:
        """Treat the reply as complete: later bytes are not part of it."""
        self.may_keep, self.is_over = False, True

    def release(self) -> None:
        """Drop the parser, which refers back to this reply: a cycle would need the collector."""
        self._parser = None

    def first(self, name: str) -> str | None:
        return next(iter(self.fields.get(name, ())), None)

    @property
    def declared_bytes(self) -> int | None:
        """The body's length, if the head declares it; llhttp has checked that it is a number."""
        length = self.first("content-length")
        return None if length is None or self.fault else int(length)

    def idle_limit_s(self, most_s: float) -> float:
        """How long the connection may idle, at most `most_s`; 0 if it must not be reused.

        That is the time in `Keep-Alive: timeout=5` (RFC 2068, section 19.7.1.1; sent by Node and
        Apache) less a second: the request has to arrive before the receiver closes.
        """
        if not self.may_keep:
            return 0.0
        announced = _TIMEOUT.findall(",".join(self.fields.get("keep-alive", ())).lower())
        return max(0.0, min([most_s, *(int(seconds) - 1.0 for seconds in announced)]))

    # Called by llhttp.

    def on_message_begin(self) -> None:
        if self.is_over:
            self.may_keep = False  # an unexpected second reply

    def on_headers_complete(self) -> None:
        if self._parser and not self.is_over:
            self.may_keep = self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        if not self.is_over and len(self.body) <= self._body_limit:
            self.body += data

    def on_message_complete(self) -> None:
        self.is_over = self.has_head

    def _take_heads(self, data: bytes) -> bytes:
        """Read up to the end of the final head, and return what follows it."""
        self._unread += data
        while head := self._next_head():
            if self._is_final(head):
                return bytes(self._unread)
        return b""

    def _next_head(self) -> bytes:
        """Remove and return the next head, with its blank line; b"" if it is incomplete."""
        if self._unread[: len(_START)] != _START[: len(self._unread)]:
            raise BadReply(_NO_STATUS_LINE)
        blank = _BLANK_LINE.search(self._unread, self._searched)
        end = blank.end() if blank else len(self._unread)
        if end > MAX_HEAD_BYTES:
            if b"\n" not in self._unread:
                raise BadReply(_NO_STATUS_LINE)
            raise HeadTooLarge(f"the head of the reply is over {MAX_HEAD_BYTES:,} bytes")
        if not blank:
            if b"\n" in self._unread and not _STATUS_LINE.match(self._unread):
                raise BadReply(_NO_STATUS_LINE)
            self._searched = max(0, end - 3)
            return b""
        head = bytes(self._unread[:end])
        del self._unread[:end]
        self._searched = 0
        return head

    def _is_final(self, head: bytes) -> bool:
        """Take the head if it is the final one; an interim head is only counted."""
        line = _STATUS_LINE.match(head)
        if not line:
            raise BadReply(_NO_STATUS_LINE)
        minor_version, status = int(line[1]), int(line[2])
        if status >= 200:
            self.status, self.reason = status, (line[3] or b"").decode("latin-1")
            self._take_final(head, minor_version)
            return True
        self._interim += 1
        if status == 101:
            raise BadReply("the reply switches protocols, which was not requested")
        if self._interim > MAX_INTERIM:
            raise BadReply(f"more than {MAX_INTERIM} interim replies and no final one")
        return False

    def _take_final(self, head: bytes, minor_version: int) -> None:
        found = _FIELD.findall(head)
        if len(found) > MAX_FIELDS:
            raise HeadTooLarge(f"the reply has over {MAX_FIELDS} header fields")
        for name, value in found:
            text = value.strip(b" \t").decode("latin-1")
            self.fields.setdefault(name.decode("ascii").lower(), []).append(text)
        self.has_head = True
        self._parser = _parser_for(self)
        self._parse(head)
        codings = [coding.lower() for coding in self.fields.get("transfer-encoding", ())]
        if codings not in ([], ["chunked"]):
            self.fault, self.may_keep = "it is not clear where the body ends", False
        if minor_version == 0 or (self.status in _BODILESS and (codings or self.declared_bytes)):
            self.may_keep = False

    def _parse(self, data: bytes) -> None:
        if self.is_over or self._parser is None:
            self.may_keep = False  # unexpected bytes
            return
        try:
            self._parser.feed_data(data)
        except HttpParserCallbackError as error:  # raised into this thread during a callback
            raise error.__context__ or error from None
        except (HttpParserError, HttpParserUpgrade) as error:
            self._break_off(f"the reply is malformed: {error}")

    def _break_off(self, fault: str) -> None:
        if not self.is_over:
            self.fault = self.fault or fault
        self.skip_body()


def _parser_for(reply: Reply) -> HttpResponseParser:
    parser = HttpResponseParser(reply)
    parser.set_dangerous_leniencies(
        lenient_optional_cr_before_lf=True,  # which RFC 9112, section 2.2, allows
        lenient_spaces_after_chunk_size=True,  # old releases of Apache padded them
        lenient_version=True,  # 1.2 to 1.9 are read as 1.1 (RFC 9112, section 2.3)
    )
    return parser
