"""Secrets stay where they are kept: nothing printed or stored contains them."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable

import callbacks
from tests.process.conftest import System
from tests.support.processes import clean_environment, until
from tests.support.target import Target

KEY = b"planted-secret-of-thirty-two-byt"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
HEADER = "planted-header-value"
QUERY = "planted-query-value"

COMMANDS = (
    ["status"],
    ["show", "c-0"],
    ["show", "c-1"],
    ["list", "dead"],
    ["list", "sent"],
    ["dead", "show"],
    ["destinations"],
    ["audit"],
    ["dead", "replay", "--all", "--dry-run"],
    ["enqueue", f"https://user:{QUERY}@a.example/?{QUERY}"],
    ["pause", f"https://a.example/?{QUERY}"],
    ["resume", f"https://a.example/?{QUERY}"],
)
#: One process for all: a separate one would take most of a second.
ALL_COMMANDS = """
import json, sys
from callbacks.cli.main import main
for words in json.loads(sys.argv[1]):
    try:
        main(words, prog_name="callbacks")
    except SystemExit:
        pass
"""


def test_no_secret_header_value_or_query_is_printed_and_no_secret_is_stored(
    system: System, enqueue: Callable[..., None]
) -> None:
    system.configure(secret=SECRET, max_delay=0.2, retry_increment=0.1, retry_client_errors="true")
    with Target(lambda hit, nth: 200 if hit.id == "c-0" else 400 + nth) as target:
        workers = system.groups.worker(processes=1)
        enqueue(f"{target.url}?token={QUERY}", 2, headers={"authorization": HEADER})
        enqueue(f"http://127.0.0.1:1/?token={QUERY}", 1, start=2, headers={"x-key": HEADER})
        until(system.settled, within=30)
        assert {hit.headers["authorization"] for hit in target.hits} == {HEADER}
        assert {hit.path for hit in target.hits} == {f"/hook?token={QUERY}"}

    printed = workers.output
    env = clean_environment(**system.environ)
    words = json.dumps([[*command, *more] for command in COMMANDS for more in ([], ["--json"])])
    run = subprocess.run(
        [sys.executable, "-c", ALL_COMMANDS, words],
        env=env, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert run.stderr.count("callbacks: ") >= 2, "no URL with a query was refused"
    printed += run.stdout + run.stderr
    printed += repr(system.settings) + str(system.settings)
    printed += repr(callbacks.AICallback(target.url, 1, settings=system.settings))
    for planted in (SECRET, SECRET.removeprefix("whsec_"), KEY.decode(), HEADER, QUERY):
        assert planted not in printed

    client = system.batcher.scripts.client
    client.config_set("rdbcompression", "no")  # a dump would hide what it compresses
    stored = b"".join(name + (client.dump(name) or b"") for name in client.keys("*"))
    for planted in (SECRET, SECRET.removeprefix("whsec_"), KEY.decode()):
        assert planted.encode() not in stored
