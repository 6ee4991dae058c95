"""The documentation builds without a warning: no broken link, no name that is described nowhere."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.process.faults import busy_s
from tests.support.processes import REPO, clean_environment

pytest.importorskip("sphinx_click", reason="the extra docs is not installed")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
#: Of answers; Sphinx by itself would neither index such words nor search for them.
NUMBERS = ("401", "410", "429", "503")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as scripts/docs does."""
    folder = tmp_path_factory.mktemp("site")
    command = re.findall(
        r"^sphinx-build (.+) docs build/docs ", (REPO / "scripts/docs").read_text(), re.MULTILINE
    )
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *command[0].split(), "docs", str(folder)],
        cwd=REPO, env=clean_environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return folder


# Building it takes half a minute, more on a busy machine.
@pytest.mark.timeout(180)
def test_the_site_builds_strictly(site: Path) -> None:
    python = (site / "python.html").read_text()
    assert "callbacks.enqueue" in python
    assert ">When<" not in python  # a type that is described nowhere
    assert 'id="callbacks-dead-replay"' in (site / "options.html").read_text()
    assert "from fastapi import" in re.sub("<[^>]*>", "", (site / "examples.html").read_text())


@pytest.mark.timeout(180)
def test_placeholders_in_help_texts_are_no_links(site: Path) -> None:
    links = re.findall(r'href="(https?://[^"]*)"', (site / "options.html").read_text())
    assert [link for link in links if "host" in link] == []


@pytest.mark.timeout(180)
def test_numbers_are_in_the_index(site: Path) -> None:
    text = (site / "searchindex.js").read_text()
    index = json.loads(text.removeprefix("Search.setIndex(").rstrip().removesuffix(")"))
    for number in NUMBERS:
        found = index["terms"][number]
        assert "receiving" in {index["docnames"][place] for place in found}, number


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=site)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.timeout(180)
@pytest.mark.skipif(not CHROMIUM, reason="no chromium is installed: apt-get install chromium")
def test_a_search_for_a_number_finds_pages(address: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        for query in (*NUMBERS, "401 secret"):
            page.goto(f"{address}/search.html?q={query}")
            found = page.locator("ul.search a", has_text="Receive callbacks")
            expect(found).to_have_count(1, timeout=10_000 + 1_000 * busy_s())
        browser.close()
