"""The Lua verbs, called by the names in their headers.

Each file in `lua/` is one verb; `lua/parts` has what several share, and the nouns that a verb
says it uses. Its header names its KEYS and ARGV in order; a caller passes
the arguments by name, and the keys follow from the namespace. So the header is the one
description of a verb's interface, and a wrong name fails at once.

All are read when this module is: what a process runs is of one release though another is
installed over it, and needs no file when an outcome has to be stored.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from types import MappingProxyType
from typing import Any, Final

from redis import Redis
from redis.exceptions import NoScriptError

from callbacks.batcher.errors import AWAY
from callbacks.batcher.keys import Keys
from callbacks.batcher.pipeline import AutoPipeline

_HEADER: Final = re.compile(r"^-- (KEYS|ARGV)\[(\d+)\] +([a-z_]+:?)", re.MULTILINE)
_USES: Final = re.compile(r"^-- @uses ([a-z_]+)$", re.MULTILINE)

#: How often an idempotent verb is called before its caller is told that Redis is away.
TRIES: Final = 3
_PAUSE_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Verb:
    """One Lua file: its text with what it shares, and the names in its header."""

    name: str
    text: str
    sha: str
    keys: tuple[str, ...]
    arguments: tuple[str, ...]


def _read(name: str, body: str, shared: Mapping[str, str]) -> Verb:
    """Read one verb; raises `ValueError` where its header skips a number."""
    found: dict[str, list[str]] = {"KEYS": [], "ARGV": []}
    for kind, index, word in _HEADER.findall(body):
        found[kind].append(word)
        if int(index) != len(found[kind]):
            raise ValueError(f"{name}.lua: {kind}[{index}] is out of order in its header")
    text = "".join(shared[part] for part in ["common", *_USES.findall(body)]) + body
    sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    return Verb(name, text, sha, tuple(found["KEYS"]), tuple(found["ARGV"]))


def _texts(folder: Traversable) -> dict[str, str]:
    """The Lua files of a folder, by name."""
    files = [file for file in folder.iterdir() if file.name.endswith(".lua")]
    return {file.name.removesuffix(".lua"): file.read_text("utf-8") for file in files}


def _read_all() -> Mapping[str, Verb]:
    folder = resources.files("callbacks.batcher") / "lua"
    shared = _texts(folder / "parts")
    verbs = {name: _read(name, body, shared) for name, body in _texts(folder).items()}
    return MappingProxyType(verbs)


VERBS: Final = _read_all()


def evaluate(pipeline: AutoPipeline, sha: str, text: str | bytes, values: Sequence[Any]) -> Any:
    """Call a script by its hash, and by its text where Redis does not know it (any more).

    So a `SCRIPT FLUSH` is never noticed. redis-py's own scripts load the text and call the hash
    again, and another flush may come in between.
    """
    try:
        return pipeline.call("EVALSHA", sha, *values)
    except NoScriptError:
        return pipeline.call("EVAL", text, *values)


class Scripts:
    """All verbs on one client and one namespace."""

    def __init__(
        self,
        client: Redis,
        keys: Keys,
        *,
        sleep: Callable[[float], None] = time.sleep,
        verbs: Mapping[str, Verb] = VERBS,
    ) -> None:
        self.client = client
        self.keys = keys
        self._sleep = sleep
        self._verbs = verbs
        self._starts: dict[str, tuple[Any, ...]] = {}
        self._pipeline = AutoPipeline(client)

    def run(self, name: str, arguments: Mapping[str, Any], *, tries: int = TRIES) -> Any:
        """Call a verb once, or again while Redis is away; it must be harmless to repeat.

        Raises redis' own errors when the last try failed.
        """
        verb, values = self._call(name, arguments)
        for left in range(tries - 1, -1, -1):
            try:
                return evaluate(self._pipeline, verb.sha, verb.text, values)
            except AWAY:
                if not left:
                    raise
                self._sleep(_PAUSE_S)
        raise AssertionError("tries must be at least 1")

    def run_many(self, name: str, calls: Iterable[Mapping[str, Any]]) -> list[Any]:
        """Call a verb for each of `calls`, one after the other, without repeats.

        An error reply stands in the list in the place of its call's answer. `calls` is read
        while the first of them are under way.
        """
        sha, text = self._verbs[name].sha, self._verbs[name].text
        values: list[list[Any]] = []

        def commands() -> Iterator[Sequence[Any]]:
            for arguments in calls:
                values.append(self._call(name, arguments)[1])
                yield "EVALSHA", sha, *values[-1]

        answers = self._pipeline.stream(commands())
        while unknown := [n for n, reply in enumerate(answers) if isinstance(reply, NoScriptError)]:
            # The first brings the text along, which serves the others, too.
            first, *others = unknown
            again = [("EVAL", text, *values[first])]
            again += [("EVALSHA", sha, *values[n]) for n in others]
            for n, reply in zip(unknown, self._pipeline.stream(again), strict=True):
                answers[n] = reply
        return answers

    def _call(self, name: str, arguments: Mapping[str, Any]) -> tuple[Verb, list[Any]]:
        """Give a verb with its keys and arguments as EVAL takes them."""
        verb = self._verbs[name]
        if arguments.keys() != set(verb.arguments):
            wrong = sorted(arguments.keys() ^ set(verb.arguments))
            raise TypeError(f"{name}.lua: arguments do not fit its header: {wrong}")
        values = list(self._start(verb))
        for word in verb.arguments:
            value = arguments[word]
            if isinstance(value, list):  # the last one may be a list of ids
                values.extend(value)
            else:
                values.append(value)
        return verb, values

    def _start(self, verb: Verb) -> tuple[Any, ...]:
        """Give the number of a verb's keys, and these."""
        start = self._starts.get(verb.name)
        if start is None:
            start = (len(verb.keys), *(self.keys.of(word) for word in verb.keys))
            self._starts[verb.name] = start
        return start
