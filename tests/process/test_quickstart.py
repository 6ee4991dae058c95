"""The quickstart of README.md, block by block in the order written, each as its reader types it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.pages import DOCS, REPO, Block, blocks, read, section
from tests.support.processes import clean_environment, until
from tests.support.server import free_port

#: Not run: it is the environment in which the tests run.
INSTALL = "pip install '.[demo]'"


def steps(path: Path, title: str) -> list[Block]:
    """The blocks of a section, without the first, which installs."""
    text = section(path.read_text("utf-8"), title)
    return [block for block in blocks(path) if block.text in text and INSTALL not in block.text]


def bare(block: Block) -> str:
    """A block without its comments."""
    return re.sub(r"^(callbacks status\n)|[ ]+#.*$", "", block.text, flags=re.MULTILINE)


class Terminal:
    """A shell in which a reader starts something that goes on."""

    def __init__(self, text: str, env: dict[str, str], folder: Path, name: str) -> None:
        self._log = folder / f"{name}.log"
        with self._log.open("wb") as out:
            self._shell = subprocess.Popen(
                ["bash", "-ec", text], env=env, cwd=folder, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip

    @property
    def output(self) -> str:
        return self._log.read_text()

    def close(self) -> None:
        """Press Ctrl-C, and after a while close the window."""
        os.killpg(self._shell.pid, signal.SIGINT)
        try:
            self._shell.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self._shell.pid, signal.SIGKILL)
            self._shell.wait(10)


@pytest.fixture
def terminals() -> Iterator[ExitStack]:
    # A shell that is started while SIGINT is ignored keeps ignoring it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with ExitStack() as stack:
        yield stack
    signal.signal(signal.SIGINT, before)


def test_the_quickstart_works_from_top_to_bottom(tmp_path: Path, terminals: ExitStack) -> None:
    server_port, receiver_port = free_port(), free_port()

    def here(text: str) -> str:
        """The same on ports that are free here."""
        moved = text.replace("6379", str(server_port)).replace("9000", str(receiver_port))
        return moved.replace("callbacks receiver", f"callbacks receiver --port {receiver_port}")

    folder = str(Path(sys.executable).parent)
    env = clean_environment()
    env["PATH"] = f"{folder}:{env['PATH']}"
    written, server, receiver, worker, program, last = steps(REPO / "README.md", "Quickstart")
    subprocess.run(["bash", "-ec", here(written.text)], env=env, cwd=tmp_path, check=True)

    def open_terminal(block: Block, name: str, sign: str) -> Terminal:
        terminal = Terminal(here(block.text), env, tmp_path, name)
        terminals.callback(lambda: sys.stdout.write(terminal.output))  # if the test fails
        terminals.callback(terminal.close)
        until(lambda: sign in terminal.output, within=30)
        return terminal

    open_terminal(server, "server", "started")
    printed = open_terminal(receiver, "receiver", "listening on")
    open_terminal(worker, "worker", "ready")
    (tmp_path / "app.py").write_text(here(program.text))
    done = subprocess.run(
        ["bash", "-ec", here(last.text)], env=env, cwd=tmp_path,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("t-1 True\nqueued\n")
    assert re.search(r"^state +sent", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"^health +ok", done.stdout, re.MULTILINE), done.stdout
    assert "id=t-1 attempt=1 signature=valid answer=200" in printed.output


def test_the_page_has_the_same_steps() -> None:
    readme = steps(REPO / "README.md", "Quickstart")
    page = [
        block for block in steps(DOCS / "quickstart.md", "Step by step") if block.kind != "text"
    ]

    assert [bare(block) for block in page] == [bare(block) for block in readme]
    assert INSTALL in read("quickstart")
