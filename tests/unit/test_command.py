"""What all commands share."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from callbacks.cli.command import Quiet
from callbacks.log import LOGGER


@pytest.fixture
def informative() -> Iterator[None]:
    before = LOGGER.level
    LOGGER.setLevel(logging.INFO)
    yield
    LOGGER.setLevel(before)


@pytest.mark.usefixtures("informative")
def test_commands_that_overlap_leave_the_log_as_it_was() -> None:
    """As two threads of one program may run them."""
    first, second = Quiet(), Quiet()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert LOGGER.level == logging.ERROR
    second.__exit__(None, None, None)
    assert LOGGER.level == logging.INFO
