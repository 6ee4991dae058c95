"""The examples of the documents run, in their order, as a reader would run them."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from tests.redis.support import key
from tests.support.processes import REPO, clean_environment

DJANGO = """
import django
from django.conf import settings
sqlite = {"ENGINE": "django.db.backends.sqlite3", "NAME": "django.db"}
settings.configure(DATABASES={"default": sqlite})
django.setup()
"""


def blocks(name: str) -> list[tuple[str, str]]:
    """The language and the text of each block of code."""
    text = (REPO / "docs" / name).read_text("utf-8")
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def program(name: str) -> str:
    """All blocks of a document as one program; without what installs, or never ends."""
    parts = ["import os", "from callbacks.cli.main import main"]
    for language, text in blocks(name):
        if language == "python":
            parts.append(DJANGO + text if "django" in text else text)
        elif language == "sh" and "pip install" not in text and "--watch" not in text:
            parts += map(_line, text.splitlines())
    return "\n".join(parts)


def _line(line: str) -> str:
    """A line of a shell as Python."""
    word, *args = shlex.split(line)
    if word == "export":
        name, value = args[0].split("=", 1)
        return f"os.environ[{name!r}] = {value!r}"
    assert word == "callbacks", line
    return f"main({args!r}, standalone_mode=False)"


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("name", "enqueued"),
    [("asyncio.md", {"t-1"}), ("outbox.md", {"o-1", "o-2", "o-3"})],
)
def test_the_examples_run(
    redis_url: str, client: redis.Redis, tmp_path: Path, name: str, enqueued: set[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program(name)],
        cwd=tmp_path,
        env=clean_environment(REDIS_URL=redis_url),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    stored = {id.decode() for id in client.zrange(key("expiry"), 0, -1)}
    assert enqueued <= stored
