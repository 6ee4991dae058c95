"""The Lua verbs, called by the names in their headers.

Each file in `lua/` is one verb. Its header describes its interface:

    -- @keys ring lane:            which keys it uses, by their names in `keys`
    -- @arg window ms: ...         an argument: its name, kind and meaning

From this the loader generates what precedes the body: `K` with the full names of these keys
(`K.ring`, `K.lanes`), `now` (Redis' clock in ms), the functions of `lua/parts` that the body calls
(and no others, because Redis creates them in each call), and a local for each argument. Callers
pass arguments by name, so that a wrong one fails at once; `Scripts` holds those that follow from
the settings.

All verbs are read at import: a process keeps running the scripts of its own release while another
is installed, and opens no file when an outcome has to be stored.
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

from callbacks.batcher.client import at
from callbacks.batcher.durability import Wait
from callbacks.batcher.errors import AWAY
from callbacks.batcher.keys import NAMES, Keys, field_of
from callbacks.batcher.routing import Sender, sender

_KEYS: Final = re.compile(r"^-- @keys (.+)$", re.MULTILINE)
_ARGUMENT: Final = re.compile(r"^-- @arg (\w+) (\w+)", re.MULTILINE)
#: The start of a shared function, table or method, which extends to the next one, with its name.
_SHARED: Final = re.compile(
    r"^(?:local function (\w+)|local (\w+)|function (\w+)[.:]|(\w+)\.__index)", re.MULTILINE
)
_NO_CODE: Final = re.compile(r"--[^\n]*|'[^'\n]*'")
_WORD: Final = re.compile(r"(?<![\w.:])[A-Za-z_]\w*")
#: How an argument of each kind is read; all but the first three are numbers. `unpack` takes fewer
#: than 8,000 values, so a longer list needs several calls.
_KINDS: Final = {
    "text": "ARGV[{n}]",
    "flag": "ARGV[{n}] == '1'",
    "list": "{{unpack(ARGV, {n})}}",
    "number": "tonumber(ARGV[{n}])",
    "ms": "tonumber(ARGV[{n}])",
    "us": "tonumber(ARGV[{n}])",
}
#: Gives a verb `now`, in ms.
CLOCK: Final = """\
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

#: How often an idempotent verb is called before its caller gets the error.
TRIES: Final = 3
_PAUSE_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Verb:
    """One Lua file: its generated text, and what its header names."""

    name: str
    text: str
    sha: str
    keys: tuple[str, ...]
    arguments: tuple[str, ...]
    takes_list: bool


def read(name: str, body: str, shared: Mapping[str, str], *, clock: str = CLOCK) -> Verb:
    """Read one verb; raises `ValueError` if its header is wrong.

    `shared`: the functions and tables it may call, see `read_shared`. `clock`: Lua that sets `now`.
    """
    keys = tuple(word for line in _KEYS.findall(body) for word in line.split())
    if unknown := set(keys) - NAMES:
        raise ValueError(f"{name}.lua: there is no key {', '.join(sorted(unknown))}")
    arguments = _ARGUMENT.findall(body)
    for word, kind in arguments:
        if kind not in _KINDS or (kind == "list" and (word, kind) != arguments[-1]):
            raise ValueError(f"{name}.lua: argument {word} is of no known kind: {kind}")
    text = "".join((_key_table(keys), clock, *_called(body, shared), _locals(arguments)))
    text += body
    sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    takes_list = any(kind == "list" for _, kind in arguments)
    return Verb(name, text, sha, keys, tuple(word for word, _ in arguments), takes_list)


def _key_table(keys: Sequence[str]) -> str:
    entries = ", ".join(f"{field_of(name)} = KEYS[1] .. '{name}'" for name in keys)
    return f"local K = {{{entries}}}\n"


def _locals(arguments: Sequence[tuple[str, str]]) -> str:
    if not arguments:
        return ""
    names = ", ".join(word for word, _ in arguments)
    values = ", ".join(_KINDS[kind].format(n=n) for n, (_, kind) in enumerate(arguments, 1))
    return f"local {names} = {values}\n"


def read_shared(texts: Iterable[str]) -> Mapping[str, str]:
    """Read the functions and tables of `lua/parts`, by name; a table comes with its methods."""
    shared: dict[str, str] = {}
    for text in texts:
        starts = [*_SHARED.finditer(text)]
        ends = [match.start() for match in starts[1:]] + [len(text)]
        for match, end in zip(starts, ends, strict=True):
            name = next(filter(None, match.groups()))
            shared[name] = shared.get(name, "") + text[match.start() : end]
    return MappingProxyType(shared)


def _called(text: str, shared: Mapping[str, str]) -> Iterable[str]:
    """Return what a text calls, each once and after what that calls itself."""
    found: dict[str, str] = {}

    def add(text: str, seen: frozenset[str]) -> None:
        for name in dict.fromkeys(_WORD.findall(_NO_CODE.sub("", text))):
            if name in shared and name not in found and name not in seen:
                add(shared[name], seen | {name})
                found[name] = shared[name]

    add(text, frozenset())
    return found.values()


def _texts(folder: Traversable) -> dict[str, str]:
    """Read the Lua files of a folder, by name."""
    files = [file for file in folder.iterdir() if file.name.endswith(".lua")]
    return {file.name.removesuffix(".lua"): file.read_text("utf-8") for file in files}


def read_verbs(clock: str = CLOCK) -> Mapping[str, Verb]:
    """Read all verbs, by name; `clock` is Lua that sets `now`."""
    folder = resources.files("callbacks.batcher") / "lua"
    shared = read_shared(_texts(folder / "parts").values())
    verbs = {name: read(name, body, shared, clock=clock) for name, body in _texts(folder).items()}
    return MappingProxyType(verbs)


VERBS: Final = read_verbs()


def evaluate(pipeline: Sender, sha: str, text: str | bytes, values: Sequence[Any]) -> Any:
    """Call a script by its hash, or by its text if Redis does not know the hash.

    So a `SCRIPT FLUSH` does no harm. redis-py's own scripts load the text and then call the hash
    again, which fails if another flush comes in between.
    """
    try:
        return pipeline.call("EVALSHA", sha, *values)
    except NoScriptError:
        return pipeline.call("EVAL", text, *values)


@dataclass(frozen=True, slots=True)
class _Form:
    """The values of one verb's call, as EVAL takes them, with a gap for each that varies."""

    verb: Verb
    values: tuple[Any, ...]
    gaps: Mapping[str, int]

    def fill(self, arguments: Mapping[str, Any]) -> list[Any]:
        """Return the values of one call; raises `TypeError` if a name is missing or unknown."""
        if arguments.keys() != self.gaps.keys():
            wrong = sorted(arguments.keys() ^ self.gaps.keys())
            raise TypeError(f"{self.verb.name}.lua: arguments do not fit its header: {wrong}")
        values = list(self.values)
        for word, value in arguments.items():
            values[self.gaps[word]] = value
        if self.verb.takes_list:
            values.extend(values.pop())
        return values


class Scripts:
    """All verbs, for one client and the keys of one shard.

    `constants`: arguments that are the same in each call, by name. `wait`: what durable calls wait
    for.
    """

    def __init__(
        self,
        client: Redis,
        keys: Keys,
        *,
        constants: Mapping[str, int] = MappingProxyType({}),
        sleep: Callable[[float], None] = time.sleep,
        verbs: Mapping[str, Verb] = VERBS,
        wait: Wait | None = None,
    ) -> None:
        self.client = at(client, keys.root)
        self.keys = keys
        self._sleep = sleep
        self._forms = {name: _form(verb, keys, constants) for name, verb in verbs.items()}
        self._pipeline = sender(client)
        self._durable = sender(client, wait)

    def run(
        self, name: str, arguments: Mapping[str, Any], *, tries: int = TRIES, durable: bool = False
    ) -> Any:
        """Call a verb, up to `tries` times if Redis is unreachable; it must be harmless to repeat.

        Raises redis-py's error when the last try fails, and `NotDurable` if what it wrote does
        not become `durable` in time.
        """
        pipeline = self._durable if durable else self._pipeline
        form = self._forms[name]
        values = form.fill(arguments)
        for left in range(tries - 1, -1, -1):
            try:
                return evaluate(pipeline, form.verb.sha, form.verb.text, values)
            except AWAY:
                if not left:
                    raise
                self._sleep(_PAUSE_S)
        raise AssertionError("tries must be at least 1")

    def run_many(
        self, name: str, calls: Iterable[Mapping[str, Any]], *, durable: bool = False
    ) -> list[Any]:
        """Call a verb for each of `calls`, one after the other, without repeats.

        `durable`: they wait together, once all are executed. An error reply is returned in the
        place of its call's answer. `calls` is consumed while the first of them are executed.
        """
        own = ((self, arguments) for arguments in calls)
        return self.run_across(name, own, durable=durable)

    def run_across(
        self,
        name: str,
        calls: Iterable[tuple[Scripts, Mapping[str, Any]]],
        *,
        durable: bool = False,
    ) -> list[Any]:
        """Call a verb in several shards of this client's, otherwise as `run_many`."""
        pipeline = self._durable if durable else self._pipeline
        verb = self._forms[name].verb
        sha, text = verb.sha, verb.text
        values: list[list[Any]] = []

        def commands() -> Iterator[Sequence[Any]]:
            for scripts, arguments in calls:
                values.append(scripts._forms[name].fill(arguments))  # noqa: SLF001 - its own kind
                yield "EVALSHA", sha, *values[-1]

        answers = pipeline.stream(commands())
        while unknown := [n for n, reply in enumerate(answers) if isinstance(reply, NoScriptError)]:
            # The first one sends the text; after it Redis knows the hash.
            first, *others = unknown
            again = [("EVAL", text, *values[first])]
            again += [("EVALSHA", sha, *values[n]) for n in others]
            for n, reply in zip(unknown, pipeline.stream(again), strict=True):
                answers[n] = reply
        return answers

    def has(self, id: str) -> bool:
        """Whether this shard has a callback, or its record."""
        keys = self.keys.of("cb:", id), self.keys.of("rec:", id)
        return bool(self.client.exists(*keys))

    def stream(self, commands: Iterable[Sequence[Any]]) -> list[Any]:
        """Send plain commands, for keys of any shards; returns their replies as Redis gives them.

        Raises the first error reply.
        """
        return raise_first(self.stream_each(commands))

    def stream_each(self, commands: Iterable[Sequence[Any]]) -> list[Any]:
        """Do the same; errors are returned in the places of the replies."""
        return self._pipeline.stream(commands)


def raise_first(answers: list[Any]) -> list[Any]:
    """Return the answers of many calls; raises the first error among them."""
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


def _form(verb: Verb, keys: Keys, constants: Mapping[str, int]) -> _Form:
    values = [1, keys.root, *(constants.get(word) for word in verb.arguments)]
    words = enumerate(verb.arguments, 2)  # after the number of keys and the root
    gaps = {word: n for n, word in words if word not in constants}
    return _Form(verb, tuple(values), MappingProxyType(gaps))
