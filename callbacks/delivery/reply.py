"""One HTTP/1 reply, parsed by llhttp and held to a few rules of our own.

The head decides the verdict; what is wrong with a body does not change it. Pure but for the
bytes that are fed in.

llhttp is strict (RFC 9112) and reads what smuggling lives on as an error: contradictory lengths,
folded fields, a space before a colon. What it lets pass, and is refused here: an empty line
before the reply, other protocols and versions, statuses outside 200 to 599, transfer codings
that hide another one, and heads and interim replies without end.
"""

from __future__ import annotations

import re
from typing import Final

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserInvalidStatusError,
    HttpParserUpgrade,
    HttpResponseParser,
)

from callbacks.model import CallbacksError

MAX_HEAD_BYTES: Final = 65_536  # with the interim replies before it
MAX_FIELDS: Final = 100
MAX_INTERIM: Final = 8  # 1xx replies before the final one

_BODILESS: Final = {204, 304}  # whatever they declare
_BLANK_LINE: Final = re.compile(rb"\r?\n\r?\n")
_FIELD: Final = re.compile(rb"^([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\r\n]*)", re.MULTILINE)
_MAX_REASON_BYTES: Final = 8_192
_TIMEOUT: Final = re.compile(r"(?:^|[\s,])timeout\s*=\s*([0-9]{1,9})\s*(?=,|$)")
_NO_STATUS_LINE: Final = "the reply does not begin with an HTTP/1 status line"


class BadReply(CallbacksError):
    """What came is no HTTP/1 reply."""


class HeadTooLarge(CallbacksError):
    """A head over `MAX_HEAD_BYTES` or of more than `MAX_FIELDS` fields."""


class Reply:
    """A reply as it comes in, interim ones (1xx) before it dropped.

    From `has_head` on `status`, `reason` and `fields` (names in lower case, values in order)
    stand. `is_over`: no more of it is expected. `fault` tells what is wrong with fields or body.
    `may_keep`: as far as is known, the connection may carry another request after it. At most
    `body_limit` bytes of the body are kept, and what they came with.
    """

    def __init__(self, body_limit: int = 0) -> None:
        self.status = 0
        self.reason = ""
        self.fields: dict[str, list[str]] = {}
        self.body = bytearray()
        self.came_at = 0.0  # when all of the head was there, on the monotonic clock
        self.fault = ""
        self.has_head = self.is_over = self.may_keep = False
        self._body_limit = body_limit
        self._has_begun = False
        self._interim = 0
        self._reason = b""
        self._pairs: list[tuple[bytes, bytes]] = []
        self._head = bytearray()  # as it came
        self._parser = HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(
            # LF line ends, which RFC 9112, section 2.2, allows to take.
            lenient_optional_cr_before_lf=True,
            # As Apache once padded them.
            lenient_spaces_after_chunk_size=True,
            # HTTP/1.2 to 1.9, to be read as 1.1 (RFC 9112, section 2.3).
            lenient_version=True,
            # A final reply after an interim one with `Connection: close`.
            lenient_keep_alive=True,
        )

    def feed(self, data: bytes) -> None:
        """Take the next bytes; raises BadReply and HeadTooLarge as long as there is no head."""
        if not self._has_begun and data[:1] != b"H":  # llhttp takes empty lines, RTSP and ICE
            raise BadReply(_NO_STATUS_LINE)
        self._has_begun = True
        if not self.has_head:
            self._head += data
            if self.fault:
                self._end_malformed_head(searched=len(self._head) - len(data))
                return
        try:
            self._parser.feed_data(data)
        except HttpParserCallbackError as error:
            # Of ours, or thrown into this thread while it was in there.
            raise error.__context__ or error from None
        except (HttpParserError, HttpParserUpgrade) as error:
            self._give_up(error)

    def end(self) -> None:
        """Take the end of the connection; raises ConnectionResetError where there is no head."""
        if not self.has_head:
            raise ConnectionResetError("the connection was closed before the reply was complete")
        if not self.is_over and (self.declared_bytes is not None or self._codings):
            self.fault = "the connection was closed before the body was complete"
        self.may_keep, self.is_over = False, True

    def skip_body(self) -> None:
        """Take the reply as done, for it is one to HEAD; llhttp would wait for a body."""
        self.may_keep, self.is_over = False, True

    def release(self) -> None:
        """Let go of the parser, which refers to this reply: else the collector has to find both."""
        del self._parser

    def first(self, name: str) -> str | None:
        return next(iter(self.fields.get(name, ())), None)

    @property
    def declared_bytes(self) -> int | None:
        """The body's length where the head tells it; llhttp has checked that it is a number."""
        length = self.first("content-length")
        return None if length is None or self.fault else int(length)

    def idle_limit_s(self, most_s: float) -> float:
        """How long the receiver lets the connection idle, less a second for the way; 0: not at all.

        `Keep-Alive: timeout=5` (RFC 2068, section 19.7.1.1) is what Node and Apache announce.
        Coming later than that, a request meets a connection that is being closed.
        """
        if not self.may_keep:
            return 0.0
        announced = _TIMEOUT.findall(",".join(self.fields.get("keep-alive", ())).lower())
        return max(0.0, min([most_s, *(int(seconds) - 1.0 for seconds in announced)]))

    # What llhttp calls, in the order of the reply. A trailer comes as headers, too.

    def on_message_begin(self) -> None:
        if self.has_head:
            self.may_keep = False  # something follows that nobody asked for
        self._reason = b""
        self._pairs.clear()

    def on_status(self, text: bytes) -> None:
        self._reason += text
        if len(self._reason) > _MAX_REASON_BYTES:
            raise BadReply(_NO_STATUS_LINE)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.has_head:
            return
        self._pairs.append((name, value))
        if len(self._pairs) > MAX_FIELDS:
            raise HeadTooLarge(f"the reply has over {MAX_FIELDS} header fields")

    def on_headers_complete(self) -> None:
        if self.has_head:
            return
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            self._pass_over(status)
            return
        self._take_head(status)
        if self._codings not in ([], ["chunked"]):
            self.fault = "nobody can tell where the body ends"
        elif self._parser.get_http_version() != "1.0" and self._parser.should_keep_alive():
            self.may_keep = self.status not in _BODILESS or not self._declares_a_body()

    def on_body(self, data: bytes) -> None:
        if not self.is_over and len(self.body) <= self._body_limit:
            self.body += data

    def on_message_complete(self) -> None:
        self.is_over = self.has_head

    def _pass_over(self, status: int) -> None:
        self._interim += 1
        if status == 101:
            raise BadReply("the reply switches protocols, which nobody asked for")
        if self._interim > MAX_INTERIM:
            raise BadReply(f"more than {MAX_INTERIM} interim replies and no final one")

    def _take_head(self, status: int) -> None:
        self._check(status)
        self.status, self.has_head = status, True
        self._head.clear()
        self.reason = self._reason.decode("latin-1")
        for name, value in self._pairs:
            text = value.strip(b" \t").decode("latin-1")
            self.fields.setdefault(name.decode("ascii").lower(), []).append(text)

    def _check(self, status: int) -> None:
        if not 200 <= status < 600 or self._parser.get_http_version()[:2] != "1.":
            raise BadReply(_NO_STATUS_LINE)

    def _give_up(self, error: Exception) -> None:
        """Where the status line was read its verdict stands; how the rest is framed is unknown."""
        self.may_keep = False
        if self.is_over:  # something followed
            return
        self.fault = f"the reply is malformed: {error}"
        if self.has_head:
            self.is_over = True
            return
        if isinstance(error, HttpParserInvalidStatusError):
            raise BadReply(_NO_STATUS_LINE)
        self._check(self._parser.get_status_code())
        for _ in range(self._interim):  # heads of interim replies come before
            self._head = bytearray(_BLANK_LINE.split(self._head, 1)[-1].lstrip())
        self._end_malformed_head(searched=0)

    def _end_malformed_head(self, searched: int) -> None:
        """Take from a head what is well-formed, such as `Retry-After`, when all of it is there."""
        blank = _BLANK_LINE.search(self._head, max(0, searched - 3))
        if blank:
            self._pairs = _FIELD.findall(self._head[: blank.start()])
            self._take_head(self._parser.get_status_code())
            self.is_over = True

    def _declares_a_body(self) -> bool:
        return bool(self._codings or self.declared_bytes)

    @property
    def _codings(self) -> list[str]:
        return [coding.lower() for coding in self.fields.get("transfer-encoding", ())]
