"""`callbacks receiver`: receives callbacks on this machine until the process is stopped."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import click

from callbacks.cli.command import Failure, note, say
from callbacks.cli.processes import ended_by_signals
from callbacks.cli.receiver.exchange import Hit, Response
from callbacks.cli.receiver.faults import FORMAT, Fault, first_answer, read_fault
from callbacks.cli.receiver.forward import Forward
from callbacks.cli.receiver.server import Receiver
from callbacks.cli.secret import secret_option
from callbacks.request.signature import BadSignature, verify
from callbacks.text import counted, many, printable

PORT: Final = 9000

_REMEMBERED: Final = 100_000
_MOST_CHARS: Final = 2_000


def _read_faults(
    _context: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]
) -> list[Fault]:
    try:
        return [read_fault(text) for text in texts]
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _read_forward(
    _context: click.Context, _parameter: click.Parameter, url: str | None
) -> Forward | None:
    try:
        return None if url is None else Forward(url)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=PORT,
    show_default=True,
    help="Port to listen on; 0: any free one.",
)
@secret_option
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="FAULT",
    callback=_read_faults,
    help=f"Misbehave; may be repeated. {FORMAT[0].upper()}{FORMAT[1:]}.",
)
@click.option(
    "--forward",
    metavar="URL",
    callback=_read_forward,
    help="Pass requests on to an application and answer what it answers; a URL without a path "
    "gets the path of each request.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON for each callback.")
def receiver(
    port: int,
    secrets: tuple[str, ...],
    faults: list[Fault],
    forward: Forward | None,
    as_json: bool,
) -> None:
    """Receive callbacks on this machine and print them.

    Checks signatures, if there is a secret, and marks repeats: callbacks whose webhook-id has come
    before. Answers 200, and 401 if the signature is wrong. Listens on 127.0.0.1 until Ctrl-C.
    """
    desk = _Desk(secrets, faults, forward, as_json=as_json)
    server = Receiver(port=port, behaviour=desk.answer, keep=0)
    with suppress(KeyboardInterrupt), ended_by_signals(), ExitStack() as stack:
        try:
            stack.enter_context(server)
        except OSError as error:
            address = f"127.0.0.1:{port}"
            raise Failure(f"cannot listen on {address}: {error.strerror}; try --port") from error
        (note if as_json else say)(f"listening on {server.url()}, {_checks(secrets)}")
        desk.wait()
    note(desk.summary())


def _checks(secrets: tuple[str, ...]) -> str:
    if secrets:
        return "checks signatures"
    return "checks no signatures: there is no --secret or CALLBACKS_SECRET"


class _Desk:
    """Answers and prints requests."""

    def __init__(
        self,
        secrets: tuple[str, ...],
        faults: list[Fault],
        forward: Forward | None,
        *,
        as_json: bool,
    ) -> None:
        self._failed: Future[None] = Future()
        self._secrets, self._faults, self._forward = secrets, faults, forward
        self._delay_s = sum(fault.delay_s for fault in faults)
        self._print = _print_json if as_json else _print_text
        self._times: OrderedDict[str, int] = OrderedDict()
        self._came = self._repeats = self._unsigned = 0

    def answer(self, hit: Hit) -> Response:
        """The receiver's behaviour; runs in its only thread."""
        facts = self._facts(hit)
        if answered := first_answer(self._faults, hit):
            reply, facts["fault"] = answered
        elif facts["problem"]:
            reply = Response(401, body=facts["problem"].encode())
        elif self._forward:
            return self._passed_on(self._forward.send(hit), facts)
        else:
            reply = Response()
        self._show(facts, reply)
        return replace(reply, delay_s=self._delay_s) if self._delay_s else reply

    def _passed_on(self, answer: Future[Response], facts: dict[str, Any]) -> Response:
        answer.add_done_callback(lambda done: self._show(facts, done.result()))
        return Response(until=answer, delay_s=self._delay_s)

    def _facts(self, hit: Hit) -> dict[str, Any]:
        """What is printed of a request."""
        problem = self._problem(hit)
        times = self._count(hit.id)
        self._came += 1
        self._repeats += times > 1
        self._unsigned += bool(problem)
        return {
            "time": datetime.fromtimestamp(hit.time_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "id": hit.id,
            "attempt": _attempt(hit),
            "times": times,
            "repeat": times > 1,
            "signature": "invalid" if problem else "valid" if self._secrets else "unchecked",
            "problem": problem,
            "method": hit.method,
            "path": hit.path,
            "headers": dict(hit.headers),
            "body": hit.body.decode("utf-8", "surrogateescape"),
            "fault": "",
        }

    def _problem(self, hit: Hit) -> str:
        """What is wrong with its signature."""
        if not self._secrets:
            return ""
        try:
            verify(self._secrets, hit.headers, hit.body, time.time())
        except BadSignature as error:
            return str(error)
        return ""

    def _count(self, id: str) -> int:
        """How often this id has come, if it is one."""
        if not id:
            return 1
        self._times[id] = times = self._times.pop(id, 0) + 1
        if len(self._times) > _REMEMBERED:
            self._times.popitem(last=False)
        return times

    def _show(self, facts: dict[str, Any], reply: Response) -> None:
        try:
            self._print(facts | {"answer": _answer(reply)})
        except OSError as error:
            if not self._failed.done():
                self._failed.set_exception(error)

    def wait(self) -> None:
        """Wait for ever; raises what went wrong with the output, if nobody reads it any more."""
        self._failed.result()

    def summary(self) -> str:
        """The line at the end."""
        repeats = counted(self._repeats, "repeat", "repeats")
        return f"{many(self._came, 'request')}, {repeats}, {self._unsigned} with a bad signature"


def _attempt(hit: Hit) -> int | None:
    text = hit.headers.get("webhook-attempt", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _answer(reply: Response) -> int | None:
    """Its status; None if it never comes, or not in time."""
    is_whole = not (reply.until or reply.drop or reply.reset or reply.drip_s)
    return reply.status if is_whole else None


def _print_json(facts: dict[str, Any]) -> None:
    click.echo(json.dumps(facts))


def _print_text(facts: dict[str, Any]) -> None:
    """One line of facts, and the body below."""
    shown = {
        "id": facts["id"] or "none",
        "attempt": facts["attempt"],
        "repeat": facts["times"] if facts["repeat"] else "",
        "signature": facts["signature"],
        "answer": facts["answer"] or "none",
        "fault": facts["fault"],
        "problem": facts["problem"] and repr(facts["problem"]),
    }
    pairs = " ".join(f"{name}={value}" for name, value in shown.items() if value)
    line = f"{facts['time'][11:23]} {facts['method']} {facts['path']} {pairs}"
    is_fine = facts["answer"] is not None and facts["answer"] < 300
    colour = "red" if not is_fine else "yellow" if facts["repeat"] else "green"
    body = facts["body"]
    cut = f" ... ({len(body):,} characters)" if len(body) > _MOST_CHARS else ""
    click.secho(printable(line), fg=colour)
    click.echo(printable(f"  {body[:_MOST_CHARS]}{cut}"))
