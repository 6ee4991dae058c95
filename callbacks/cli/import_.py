"""`callbacks import`: enqueue many callbacks from NDJSON, in pipelines and in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any, Final

import click
import redis

from callbacks import admin
from callbacks.api import chunk_size, prepare, store
from callbacks.cli.command import (
    Failure,
    json_option,
    note,
    parts,
    print_json,
    redis_line,
    say,
    share_of,
)
from callbacks.cli.enqueue import OTHER, read_json
from callbacks.model import Item, SettingsError, Stored
from callbacks.runtime import Runtime
from callbacks.text import counted, many

#: The longest line: a JSON escape may need six bytes for one, and a line has more than its data.
_ESCAPED: Final = 6
_BESIDE_DATA: Final = 65_536
#: A pipeline is sent when it reaches this size, however few callbacks it has.
_CHUNK_BYTES: Final = 4 * 1024 * 1024
_BOM: Final = b"\xef\xbb\xbf"

_Line = tuple[int, bytes | None]
_Chunk = list[tuple[int, Item]]


@dataclass(slots=True)
class Tally:
    """The results of the lines so far; blank ones are not counted."""

    accepted: int = 0
    known: int = 0
    conflicts: int = 0
    bad: int = 0

    def __str__(self) -> str:
        known = f"{self.known:,} already known"
        if self.conflicts:
            known += f" ({self.conflicts:,} with {OTHER})"
        return f"{self.accepted:,} accepted, {known}, {self.bad:,} bad"


def lines(stream: IO[bytes], limit: int) -> Iterator[_Line]:
    """Read and number the lines of a file, from 1; None for one of more than `limit` bytes."""
    number = 0
    while raw := stream.readline(limit + 1):
        number += 1
        if len(raw) > limit and not raw.endswith(b"\n"):
            while (rest := stream.readline(limit)) and not rest.endswith(b"\n"):
                pass
            yield number, None
        else:
            yield number, raw.removeprefix(_BOM) if number == 1 else raw


def _checked(found: Runtime, raw: bytes | None) -> Item:
    """Check one line; raises ValueError, which says what is wrong with it."""
    if raw is None:
        raise ValueError(f"is longer than {_limit(found):,} bytes")
    item = read_json(raw)
    if not isinstance(item, dict):
        raise ValueError("is not a JSON object")  # noqa: TRY004 - as for any other bad line
    return prepare(found, item, datetime.now(UTC))


def _limit(found: Runtime) -> int:
    return _ESCAPED * found.settings.max_payload_bytes + _BESIDE_DATA


class _Import:
    """One run: collects good lines into chunks, stores them, counts, and tells of each chunk."""

    def __init__(self, found: Runtime, tell: Callable[[Tally], object]) -> None:
        self.found, self.tell = found, tell
        self.tally = Tally()

    def run(self, numbered: Iterable[_Line]) -> None:
        """Import all lines."""
        chunk: _Chunk = []
        size = 0
        most = chunk_size(self.found)
        for number, raw in numbered:
            if raw is not None and not raw.strip():
                continue
            try:
                item = _checked(self.found, raw)
            except SettingsError:
                raise  # also a ValueError, but not this line's fault
            except ValueError as error:
                self.tally.bad += 1
                note(f"line {number}: {error}")
                continue
            chunk.append((number, item))
            size += len(item.request)
            if len(chunk) == most or size >= _CHUNK_BYTES:
                self._store(chunk)
                chunk, size = [], 0
        if chunk:
            self._store(chunk)

    def _store(self, chunk: _Chunk) -> None:
        first, last = chunk[0][0], chunk[-1][0]
        try:
            results = store(self.found, [item for _, item in chunk])
        except redis.RedisError as error:
            where = f"stopped in lines {first} to {last}, which may or may not be stored"
            raise Failure(f"{where} ({self.tally} before): {redis_line(error)}") from error
        stored = [result for result in results if isinstance(result, Stored)]
        accepted = sum(result.accepted for result in stored)
        self.tally.accepted += accepted
        self.tally.known += len(stored) - accepted
        self.tell(self.tally)
        for (number, item), result in zip(chunk, results, strict=True):
            if isinstance(result, Stored) and result.conflict:
                self.tally.conflicts += 1
                note(f"line {number}: {item.id} is known with {OTHER}")
            if isinstance(result, Exception):
                why = redis_line(result) if isinstance(result, redis.RedisError) else result
                raise Failure(f"stopped at line {number} ({self.tally}): {why}") from result


def _sized(numbered: Iterable[_Line], advance: Any) -> Iterator[_Line]:
    """Report the size of each line to a progress bar."""
    for number, raw in numbered:
        advance(len(raw or b""))
        yield number, raw


def _size(stream: IO[bytes]) -> int | None:
    """How many bytes of a file are left to read; None if it is a pipe."""
    if not stream.seekable():
        return None
    here = stream.tell()
    end = stream.seek(0, 2)
    stream.seek(here)
    return end - here


@click.command("import")
@click.argument("file", type=click.File("rb"), metavar="FILE|-")
@json_option
def import_(file: IO[bytes], as_json: bool) -> None:
    """Enqueue many callbacks from NDJSON.

    Required keys are callback_url and data; optional are event, id, environment, headers,
    expires_in, delay (seconds, "10m" or an RFC 3339 time) and lane. Bad lines are reported by
    number on stderr and skipped; blank lines are ignored.
    """
    found = parts()
    with share_of("callbacks") as bar:
        task = bar.add_task("", total=_size(file), count=0)
        run = _Import(found, lambda tally: bar.update(task, count=tally.accepted + tally.known))
        numbered = lines(file, _limit(found))
        run.run(_sized(numbered, lambda size: bar.advance(task, size)))
    tally = run.tally
    if as_json:
        print_json(admin.document(tally))
    else:
        say(str(tally))
    if tally.bad or tally.conflicts:
        raise Failure(_wrong(tally))


def _wrong(tally: Tally) -> str:
    bad = f"{many(tally.bad, 'bad line')} skipped" if tally.bad else ""
    known = counted(tally.conflicts, "id is", "ids are") + f" known with {OTHER}"
    return "; ".join(filter(None, (bad, known if tally.conflicts else "")))
