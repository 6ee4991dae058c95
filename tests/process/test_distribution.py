"""Wheel and sdist, built as for a release: what is in them, and that the wheel runs by itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from configparser import ConfigParser
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path

import pytest

from tests.support.processes import REPO

#: For the repository and its CI alone.
NOT_SHIPPED = {".ci/run", ".gitignore"}
#: PYTHONDONTWRITEBYTECODE is the machine's; it makes setuptools warn that it compiles nothing.
_LEFT_OUT = {"PYTHONDONTWRITEBYTECODE", "PYTHONPATH"}
ENVIRON = {name: value for name, value in os.environ.items() if name not in _LEFT_OUT}


def files_of_the_repository() -> set[str]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True)
    return set(listed.stdout.split("\0")) - {""}


@dataclass(frozen=True)
class Built:
    """What `python -m build` left."""

    folder: Path
    output: str

    @property
    def wheel(self) -> Path:
        (path,) = self.folder.glob("*.whl")
        return path

    @property
    def sdist(self) -> Path:
        (path,) = self.folder.glob("*.tar.gz")
        return path


@pytest.fixture(scope="module")
def version() -> str:
    config = ConfigParser()
    config.read(REPO / "setup.cfg")
    return config["metadata"]["version"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """From a copy, because building leaves files behind, and what tools left must not matter."""
    source, folder = (tmp_path_factory.mktemp(name) for name in ("source", "dist"))
    for name in files_of_the_repository():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPO / name, source / name)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source],
        env=ENVIRON, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return Built(folder, done.stdout)


def test_the_build_warns_of_nothing(built: Built) -> None:
    bad = re.compile("warning|deprecat|not found|no .* matching", re.IGNORECASE)
    assert [line for line in built.output.splitlines() if bad.search(line)] == []


def test_the_wheel_has_the_package_the_plugin_and_nothing_else(built: Built, version: str) -> None:
    about = f"callbacks-{version}.dist-info"
    described = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "top_level.txt"}
    expected = {name for name in files_of_the_repository() if name.startswith("callbacks/")}
    expected |= {"pytest_callbacks.py", f"{about}/licenses/LICENSE"}
    expected |= {f"{about}/{name}" for name in described}
    with zipfile.ZipFile(built.wheel) as wheel:
        assert set(wheel.namelist()) == expected
        metadata = Parser().parsestr(wheel.read(f"{about}/METADATA").decode())
    assert metadata["Version"] == version
    assert metadata.get_payload() == (REPO / "README.md").read_text()


def test_the_sdist_has_all_that_is_needed_to_test_it_and_nothing_else(
    built: Built, version: str
) -> None:
    with tarfile.open(built.sdist) as sdist:
        files = {one.name.removeprefix(f"callbacks-{version}/") for one in sdist if one.isfile()}
    made = {name for name in files if name.startswith("callbacks.egg-info/")} | {"PKG-INFO"}
    assert files - made == files_of_the_repository() - NOT_SHIPPED


def test_the_wheel_runs_by_itself(built: Built, version: str, tmp_path: Path) -> None:
    install = [sys.executable, "-m", "pip", "install", "-qq", "--no-deps", "--no-index"]
    subprocess.run([*install, "--target", tmp_path, built.wheel], env=ENVIRON, check=True)
    code = "import callbacks.web, callbacks.testing; print(callbacks.__file__)"
    for arguments, printed in (
        (["-m", "callbacks", "--version"], f"callbacks, version {version}\n"),
        (["-c", code], f"{tmp_path / 'callbacks' / '__init__.py'}\n"),
    ):
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path.parent, env={**ENVIRON, "PYTHONPATH": str(tmp_path)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.stdout, done.stderr) == (printed, "")
