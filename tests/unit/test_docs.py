"""The pages hold together: links lead somewhere, and what a block says can be typed.

Python blocks are run by `tests/redis/test_docs_examples.py`, the quickstart by
`tests/process/test_quickstart.py`.
"""

from __future__ import annotations

import ast
import configparser
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from dramatiq.cli import make_argument_parser

from callbacks.api import _PARAMETERS
from callbacks.cli.main import main
from callbacks.request.signature import decode_secret
from callbacks.settings import VARIABLES, load_settings
from tests.support.pages import (
    DOCS,
    PAGES,
    REPO,
    SECRET,
    Block,
    anchors,
    blocks,
    first_cells,
    prose,
    read,
    section,
)

BLOCKS = [block for page in PAGES for block in blocks(page)]
#: What is no code: what is printed or sent, and Sphinx' directives, which the site's build runs.
NOT_RUN = {
    "text",
    "http",
    "{toctree}",
    "{eval-rst}",
    "{include} ../CHANGELOG.md",
    "{include} ../README.md",
    *(
        f"{{literalinclude}} examples/{name}"
        for name in ("flask_app.py", "fastapi_app.py", "django_app.py", "receiver.mjs")
    ),
}
#: Variables of others whose names look like ours.
OTHERS = {"CALLBACKS_COMPLETE"}
#: Where the name alone is installed, and not a path or a direct reference (`callbacks @ git+…`).
OTHER_PROJECT = re.compile(
    r"""\binstall\b[^\n`#;&|]*?[ '"]callbacks(?:\[[\w,]*\])?(?![\w/.\[-]| @ )"""
)
PLACEHOLDER = re.compile(r"[A-Z]+|\[[A-Z]+\]|…|\.\.\.")


def of(kind: str) -> list[Block]:
    return [block for block in BLOCKS if block.kind == kind]


def ids(block: Block) -> str:
    return f"{block.page}-{block.text[:30]!r}"


# Links


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://)([^)\s]+)\)", prose(page))
    for link in links:
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.is_file(), link
        if anchor:
            assert anchor in anchors(target), link


def test_every_page_is_in_the_table_of_contents_once() -> None:
    listed = [
        name
        for block in blocks(DOCS / "index.md")
        if block.kind == "{toctree}"
        for name in block.text.splitlines()
        if name and not name.startswith(":")
    ]
    assert sorted(listed) == sorted(page.stem for page in DOCS.glob("*.md") if page.stem != "index")


def test_the_site_begins_with_the_table_of_the_readme() -> None:
    """`docs/index.md` includes what is between two comments."""
    (block,) = [b for b in blocks(DOCS / "index.md") if b.kind == "{include} ../README.md"]
    start, end = re.findall(r"^:(?:start-after|end-before): (.+)$", block.text, re.MULTILINE)
    shown = (REPO / "README.md").read_text("utf-8").split(start)[1].split(end)[0]
    listed = set(re.findall(r"\(docs/(\w+)\.md", shown))
    assert listed == {page.stem for page in DOCS.glob("*.md")} - {"index", "changelog", "options"}


def test_what_the_quickstart_quotes_is_what_is_said() -> None:
    """Each message in the table of what can go wrong is a text of the code."""
    code = "".join(path.read_text("utf-8") for path in (REPO / "callbacks").rglob("*.py"))
    table = section(read("quickstart"), "If it is not `sent`")
    cells = [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| ")][1:]
    quoted = [text for cell in cells for text in re.findall(r"`([^`]+)`", cell)]
    assert len(quoted) > 15
    # What the reader's own case fills in, or the code joins from pieces.
    own = r"t-1|127\.0\.0\.1|CALLBACKS_MAX_DELAY|'x'|app\.py|…|the receiver (?=sent)|for 7 s|; "
    theirs = {"Connection refused", "ConnectionError"}
    pieces = [part.strip() for text in quoted for part in re.split(own, text) if part.strip(" ,")]
    assert [piece for piece in pieces if piece not in code and piece not in theirs] == []


def test_the_readme_sells_and_starts() -> None:
    lines = (REPO / "README.md").read_text("utf-8").splitlines()
    assert len(lines) <= 200
    assert {"scripts/demo", "scripts/test"} <= {line.split(" ")[0] for line in lines}


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "README.md"])
def test_every_script_that_is_named_exists(name: str) -> None:
    named = set(re.findall(r"(?:^|`)(scripts/\w+)", read(name), re.MULTILINE))
    assert named
    assert [script for script in named if not (REPO / script).exists()] == []


# Blocks


def test_every_block_says_what_it_is() -> None:
    kinds = {block.kind for block in BLOCKS}
    assert kinds == NOT_RUN | {"python", "sh", "json", "js"}


@pytest.mark.parametrize("block", of("python"), ids=ids)
def test_python_compiles(block: Block) -> None:
    compile(block.text, block.page, "exec")


@pytest.mark.parametrize("block", of("json"), ids=ids)
def test_what_can_be_imported_has_the_parameters_of_enqueue(block: Block) -> None:
    for line in block.text.splitlines():
        assert {"callback_url"} <= json.loads(line).keys() <= _PARAMETERS


@pytest.mark.skipif(not shutil.which("node"), reason="there is no Node to read JavaScript")
@pytest.mark.parametrize("block", of("js"), ids=ids)
def test_javascript_can_be_read(block: Block, tmp_path: Path) -> None:
    (tmp_path / "block.mjs").write_text(block.text)
    subprocess.run(["node", "--check", tmp_path / "block.mjs"], check=True)


@pytest.mark.parametrize("block", of("sh"), ids=ids)
def test_a_shell_can_read_it(block: Block) -> None:
    subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)


# Commands


def spans() -> Iterator[tuple[str, str]]:
    """Inline code that begins with our command, and where."""
    for page in PAGES:
        for span in re.findall(r"`((?:[A-Z_]+=\S+ )*callbacks [a-z][^`\n]*)`", prose(page)):
            yield page.name, span


def typed() -> Iterator[tuple[str, str]]:
    """Every call of our command in shell blocks, and where; also within other commands."""
    for block in of("sh"):
        for line in re.sub(r"\\\n", " ", block.text).splitlines():
            bare = re.sub(r"(^|\s)#.*", "", line)
            before = r"(?<!dramatiq )(?<!gevent )(?<!periodiq )(?<!app )(?<!my-)(?<![\w./_-])"
            for found in re.finditer(before + r"callbacks ([a-z][^|;)&>]*)", bare):
                if not re.search(
                    r"(docker run|build|kubectl create|USER|-t) ", bare[: found.start()]
                ):
                    yield block.page, found[0]


def check_call(call: str) -> None:
    """Raise click's error where the call has an unknown command, option or too many words."""
    words = shlex.split(re.sub(r"\$\([^)]*\)", "x", call), posix=True)
    words = words[words.index("callbacks") + 1 :]
    context = click.Context(main, info_name="callbacks")
    command: click.Command = main
    while isinstance(command, click.Group) and words:
        name, found, words = command.resolve_command(context, words)
        assert found is not None
        command, context = found, click.Context(found, info_name=name, parent=context)
    _, rest, _ = command.make_parser(context).parse_args(list(words))
    assert not rest, call


@pytest.mark.parametrize(("page", "call"), sorted({*typed()}))
def test_every_command_that_is_shown_can_be_typed(page: str, call: str) -> None:
    check_call(call)


@pytest.mark.parametrize(("page", "call"), sorted({*spans()}))
def test_every_command_that_is_named_exists_with_its_options(page: str, call: str) -> None:
    check_call(re.sub(r" ….*| \.\.\.", "", call))


def test_a_wrong_command_would_be_noticed() -> None:
    assert len([*typed()]) > 30
    assert len([*spans()]) > 150
    for wrong in ("callbacks status --wach", "callbacks stats", "callbacks show a b"):
        with pytest.raises((click.UsageError, AssertionError)):
            check_call(wrong)


def test_every_worker_that_is_shown_can_be_started() -> None:
    found = [
        words
        for block in of("sh")
        for words in re.findall(r"\bdramatiq(?:-gevent)? (callbacks[^\n#|]*)", block.text)
    ]
    assert len(found) > 8
    for words in found:
        chosen = make_argument_parser().parse_args(shlex.split(words))
        assert chosen.broker == "callbacks", words


def test_every_extra_is_named_and_exists() -> None:
    setup = configparser.ConfigParser()
    setup.read(REPO / "setup.cfg")
    text = "".join(page.read_text("utf-8") for page in PAGES)
    named = set(re.findall(r"(?<=['`])(?:\.|callbacks)\[([\w,]+)\]", text))
    known = set(setup["options.extras_require"]) - {"bench", "docs", "test"}  # of developers
    assert {extra for extras in named for extra in extras.split(",")} == known


@pytest.mark.parametrize("page", [*PAGES, REPO / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_nobody_is_told_to_install_the_other_project_of_this_name(page: Path) -> None:
    assert OTHER_PROJECT.findall(page.read_text("utf-8")) == []


def test_what_would_install_the_other_project_is_found() -> None:
    for wrong in (
        "pip install callbacks",
        "pip install -U 'callbacks[web]'",
        "uv pip install callbacks[web]>=0.2 gunicorn",
        'pip install flask "callbacks[testing]"',
    ):
        assert OTHER_PROJECT.search(wrong), wrong
    for right in (
        "pip install '.[web]'",
        "pip install 'callbacks[web] @ git+https://git.example/team/callbacks'",
        "pip install '../callbacks[testing]'",
    ):
        assert not OTHER_PROJECT.search(right), right


# Variables


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_variable_that_is_named_exists(page: Path) -> None:
    named = set(re.findall(r"\bCALLBACKS_[A-Z_]*[A-Z]\b", page.read_text("utf-8")))
    named |= {f"CALLBACKS{name}" for name in re.findall(r"`(_[A-Z_]+[A-Z])`", prose(page))} - {
        "CALLBACKS_MAX"
    }
    known = {name for name in VARIABLES if "<" not in name} | OTHERS
    # CALLBACKS_SECRET_STAGING and the like: that of an environment.
    assert {name for name in named - known if not name.startswith("CALLBACKS_SECRET_")} == set()


@pytest.mark.parametrize("block", of("sh"), ids=ids)
def test_every_variable_that_is_set_has_a_value_that_is_allowed(block: Block) -> None:
    pattern = r"\b((?:CALLBACKS_\w+|REDIS_URL))=(\"[^\"]*\"|'[^']*'|\S*)"
    given = {}
    for name, text in re.findall(pattern, re.sub(r"\$\([^)]*\)", SECRET, block.text)):
        value = text.strip("\"'").replace("$CALLBACKS_SECRET", SECRET)
        value = SECRET if value == "whsec_..." else value
        given[name] = value.replace("//...", "//127.0.0.1")
    if "CALLBACKS_WEB_TOKEN" in given:
        given["CALLBACKS_WEB_TOKEN"] = "the output of openssl".replace(" ", "-")
    assert load_settings(given).warnings == ()


def test_the_secret_in_the_examples_is_one() -> None:
    shown = {found for page in PAGES for found in re.findall(r"whsec_\w{10,}=*", page.read_text())}
    assert shown == {SECRET}
    assert len(decode_secret(SECRET)) == 32


# Python


def test_no_example_leaves_out_an_import() -> None:
    """A block that is shown alone can be copied: it imports what it uses of ours."""
    for block in of("python"):
        tree = ast.parse(block.text)
        used = {
            node.func.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        ours = {"enqueue", "enqueue_many", "get_status", "cancel", "enqueue_on_commit", "aenqueue"}
        imported = {
            name.asname or name.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for name in node.names
        }
        assert used & ours <= imported or block.page == "docs/asyncio.md", block


def test_the_events_of_the_pages_are_those_of_the_log() -> None:
    events = set(first_cells(read("logs")))
    shown = "".join(block.text for block in of("text"))
    assert set(re.findall(r"^timestamp=\S+ level=\w+ event=(\w+)", shown, re.MULTILINE)) <= events
