"""The Python of the pages is run, page by page, as a reader would: with a real server.

`docs/testing.md` is run by `tests/process/test_pytest_plugin.py`, `docs/requests.md` by
`tests/http/test_adapter.py`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.pages import PAGES, SECRET, Block, blocks
from tests.support.processes import clean_environment
from tests.support.server import Server

ELSEWHERE = {"docs/testing.md", "docs/requests.md"}
RUN = [
    page
    for page in PAGES
    if any(block.kind == "python" for block in blocks(page))
    and f"{page.parent.name}/{page.name}" not in ELSEWHERE
]
#: What a reader has done before a block, by page and number.
BEFORE = {
    ("outbox.md", 1): """
import django
from django.conf import settings

one = {"ENGINE": "django.db.backends.sqlite3", "NAME": "django.db"}
settings.configure(DATABASES={"default": one})
django.setup()
""",
    ("outbox.md", 2): """
from callbacks.cli.main import main

main(["outbox", "create", "--database", "sqlite:///shop.db"], standalone_mode=False)
""",
    ("secrets.md", 0): """
import sqlite3

with sqlite3.connect("customers.db") as made:
    made.execute("CREATE TABLE secrets (host TEXT, environment TEXT, secret TEXT, made TEXT)")
    rows = [("a.example", "production", secret, secret) for secret in ("whsec_1", "whsec_2")]
    made.executemany("INSERT INTO secrets VALUES (?, ?, ?, ?)", rows)
""",
}
#: What has to hold once all blocks of a page have run.
AFTER = {
    "administration.md": "assert done.count == 0 and page.cursor is None",
    "backlogs.md": "assert [receipt.id for receipt in receipts] == ['t-1', 't-2']",
    "broker.md": """
import io
from contextlib import redirect_stdout

import callbacks
assert callbacks.runtime.runtime().settings.retry_schedule == (5, 300, 1800)
assert isinstance(resize.broker, RedisBroker)
callbacks.enqueue("https://customer.example/hooks", {}, id="gone")
with redirect_stdout(io.StringIO()) as said:
    on_dead.fn("gone", "expired")
assert said.getvalue() == "gone to https://customer.example:443 is dead: expired\\n"
""",
    "celery.md": "from callbacks import get_status\nassert get_status('t-1').state == 'queued'",
    "django.md": """
from callbacks.settings import load_settings

found = load_settings({}, in_code={name.lower(): value for name, value in CALLBACKS.items()})
assert found.max_retries == 5
""",
    "outbox.md": """
from callbacks import get_status

main(["outbox", "drain", "--database", "sqlite:///shop.db"], standalone_mode=False)
assert [get_status(f"o-{n}").state for n in (1, 2, 3)] == ["queued"] * 3
""",
    "receiving.md": """
import pytest
from datetime import UTC, datetime
import json, time
from standardwebhooks import WebhookVerificationError

body = json.dumps({"type": "a", "data": 1}).encode()
secret = "whsec_c2VjcmV0IG9mIG9uZSBjdXN0b21lciwgMzIgYnl0ZXM="
signed = Webhook(secret).sign("t-1", datetime.now(UTC), body.decode())
headers = {
    "webhook-id": "t-1", "webhook-timestamp": str(int(time.time())), "webhook-signature": signed
}
assert receive(headers, body) == "a: 1"
assert receive(headers, body) is None
with pytest.raises(WebhookVerificationError):
    receive(headers, body + b" ")
""",
    "secrets.md": """
assert find_secrets("https://a.example/hooks", "production") == ["whsec_2", "whsec_1"]
assert find_secrets("https://b.example/hooks", "production") == []
""",
    "settings.md": "assert callbacks.runtime.runtime().settings.max_retries == 5",
}
#: What the blocks print.
SAID = {
    "README.md": "t-1 True\nqueued\n",
    "asyncio.md": "True queued\n",
    "backlogs.md": "2\n",
    "quickstart.md": "t-1 True\nqueued\n",
    "sending.md": "t-1 True\nqueued\n",
}


def program(page: str, shown: list[Block]) -> str:
    """The blocks of a page as one program. One that begins with `# not run` is left out."""
    parts = []
    for number, block in enumerate(shown):
        parts.append(BEFORE.get((page, number), ""))
        if not block.text.startswith("# not run: "):
            parts.append(block.text.replace("whsec_...", SECRET))
    return "\n".join([*parts, AFTER.get(page, "")])


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_the_python_of_a_page_does_what_it_says(page: Path, server: Server, tmp_path: Path) -> None:
    shown = [block for block in blocks(page) if block.kind == "python"]
    env = clean_environment(
        REDIS_URL=server.url,
        CALLBACKS_SECRET=SECRET,
        CALLBACKS_NAMESPACE=page.stem.lower(),
    )
    done = subprocess.run(
        [sys.executable, "-c", program(page.name, shown)],
        env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
    if page.name in SAID:
        assert done.stdout == SAID[page.name]
