"""One HTTP/1 reply, read strictly and in little space.

The head decides the verdict; the body is only read so that the connection can be used again.
Pure but for the function that hands in the bytes. Rules: RFC 9112.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from callbacks.model import CallbacksError

MAX_HEAD_BYTES: Final = 65_536
MAX_FIELDS: Final = 100
MAX_INTERIM: Final = 8  # 1xx replies before the final one

_MAX_STATUS_LINE: Final = 8_192
_MAX_CHUNK_LINE: Final = 1_024  # its extensions included
_RECV_BYTES: Final = 16_384
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([0-9]) ([1-5][0-9]{2})(?: [^\r]*)?")
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")
_TIMEOUT: Final = re.compile(r"timeout\s*=\s*([0-9]{1,9})")


class BadReply(CallbacksError):
    """What came is no HTTP/1 reply."""


class HeadTooLarge(CallbacksError):
    """A head over `MAX_HEAD_BYTES` or of more than `MAX_FIELDS` fields."""


class Body(Enum):
    """Where a body ends, other than after a number of bytes."""

    CHUNKED = "chunked"
    UNTIL_CLOSE = "until close"
    UNKNOWN = "unknown"  # contradictory: nobody can say where the next reply would begin


@dataclass(frozen=True, slots=True)
class Head:
    """The final status line (200-599) and its fields, names in lower case, values in order."""

    status: int
    minor_version: int
    fields: Mapping[str, Sequence[str]]
    well_formed: bool = True  # False where a line is no field: then no framing is trusted

    def first(self, name: str) -> str | None:
        return next(iter(self.fields.get(name, ())), None)

    def tokens(self, name: str) -> list[str]:
        """All members of a field that is a list (RFC 9110, section 5.6.1), in lower case."""
        values = ",".join(self.fields.get(name, ())).lower()
        return [token.strip() for token in values.split(",") if token.strip()]


class Reader:
    """Buffers what `recv` hands in; b"" from it is the end. An early end raises."""

    def __init__(self, recv: Callable[[int], bytes]) -> None:
        self._recv = recv
        self._buffer = bytearray()

    @property
    def buffered(self) -> int:
        """How many bytes have come that nobody asked for yet."""
        return len(self._buffer)

    def line(self, limit: int) -> bytes:
        """The next line without its end, LF or CRLF; HeadTooLarge where it is over `limit`."""
        scanned = 0
        while (end := self._buffer.find(b"\n", scanned)) < 0:
            scanned = len(self._buffer)
            if scanned > limit + 1:
                break
            self._fill()
        line = bytes(self._buffer[: max(end, 0)]).removesuffix(b"\r")
        if end < 0 or len(line) > limit:
            raise HeadTooLarge(f"a line of the reply is over {limit:,} bytes")
        del self._buffer[: end + 1]
        return line

    def skip(self, count: int) -> None:
        """Drop the next `count` bytes, as they come."""
        while count > len(self._buffer):
            count -= len(self._buffer)
            self._buffer.clear()
            self._fill()
        del self._buffer[:count]

    def flush(self) -> None:
        """Nothing; http.client calls it on what it takes for a file."""

    def close(self) -> None:
        """Nothing; the connection owns the socket."""

    def _fill(self) -> None:
        received = self._recv(_RECV_BYTES)
        if not received:
            raise ConnectionResetError("the connection was closed before the reply was complete")
        self._buffer += received


def read_head(reader: Reader) -> Head:
    """The head of the final reply; interim ones (1xx) before it are dropped.

    Raises BadReply for what is none, HeadTooLarge, and whatever reading raises.
    """
    for _ in range(MAX_INTERIM + 1):
        minor_version, status = _read_status(reader)
        fields, well_formed = _read_fields(reader)
        if status == 101:
            raise BadReply("the reply switches protocols, which nobody asked for")
        if status >= 200:
            return Head(status, minor_version, fields, well_formed)
    raise BadReply(f"more than {MAX_INTERIM} interim replies and no final one")


def body_of(head: Head) -> Body | int:
    """The body's framing, as a number of bytes where it is known (RFC 9112, section 6.3)."""
    lengths = head.fields.get("content-length", ())
    encodings = head.tokens("transfer-encoding")
    if not head.well_formed:
        return Body.UNKNOWN
    if head.status in {204, 304}:  # without a body, whatever they declare
        return Body.UNKNOWN if encodings or lengths not in ((), ["0"]) else 0
    if encodings:
        chunked = encodings == ["chunked"] and not lengths and head.minor_version >= 1
        return Body.CHUNKED if chunked else Body.UNKNOWN
    if not lengths:
        return Body.UNTIL_CLOSE
    if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
        return Body.UNKNOWN
    return int(lengths[0])


def drain(reader: Reader, body: Body | int, limit: int) -> bool:
    """Read a body and drop it; True where it ended as declared and nothing came after it.

    At most `limit` bytes are read, chunk sizes included; none of a body without an end of its
    own, after which no reply can follow. Raises what reading raises.
    """
    if body in {Body.UNKNOWN, Body.UNTIL_CLOSE}:
        return False
    complete = _drain_chunks(reader, limit) if body is Body.CHUNKED else False
    if isinstance(body, int) and body <= limit:
        reader.skip(body)
        complete = True
    return complete and reader.buffered == 0


def idle_limit_s(head: Head, most_s: float) -> float:
    """How long the receiver lets the connection idle, less a second for the way; 0: not at all.

    `Keep-Alive: timeout=5` (RFC 2068, section 19.7.1.1) is what Node and Apache announce.
    Coming later than that, a request meets a connection that is being closed.
    """
    if head.minor_version == 0 or "close" in head.tokens("connection"):
        return 0.0
    announced = [_TIMEOUT.fullmatch(token) for token in head.tokens("keep-alive")]
    return max(0.0, min([most_s, *(int(match[1]) - 1.0 for match in announced if match)]))


def _read_status(reader: Reader) -> tuple[int, int]:
    try:
        line = _STATUS_LINE.fullmatch(reader.line(_MAX_STATUS_LINE))
    except HeadTooLarge:
        line = None
    if line is None:
        raise BadReply("the reply does not begin with an HTTP/1 status line")
    return int(line[1]), int(line[2])


def _read_fields(reader: Reader) -> tuple[dict[str, list[str]], bool]:
    fields: dict[str, list[str]] = {}
    well_formed = True
    room = MAX_HEAD_BYTES
    for _ in range(MAX_FIELDS + 1):
        line = reader.line(room)
        if not line:
            return fields, well_formed
        room = max(0, room - len(line) - 2)
        name, colon, value = line.partition(b":")
        if not colon or not _NAME.fullmatch(name) or b"\r" in value or b"\0" in value:
            well_formed = False  # folded lines too, which RFC 9112, section 5.2, gave up
            continue
        text = value.strip(b" \t").decode("latin-1")
        fields.setdefault(name.decode("ascii").lower(), []).append(text)
    raise HeadTooLarge(f"the reply has over {MAX_FIELDS} header fields")


def _drain_chunks(reader: Reader, limit: int) -> bool:
    room = limit
    while room >= 0:
        line = reader.line(_MAX_CHUNK_LINE)
        size = _CHUNK_SIZE.fullmatch(line)
        if size is None:
            return False
        count = int(size[1], 16)
        if count == 0:
            return _read_fields(reader)[1]  # the trailer
        room -= len(line) + 4 + count
        if room >= 0:
            reader.skip(count)
            if reader.line(limit=0):
                return False
    return False
