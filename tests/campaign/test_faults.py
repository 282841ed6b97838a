"""Calls that fail, in short: every kind of fault, at some calls."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.campaign import faults
from tests.campaign.faults import Fault, Injector
from tests.campaign.syscalls import watched_calls

pytestmark = pytest.mark.slow


def test_the_nth_call_may_fail(folder: Path) -> None:
    for run in (faults.run_writing, faults.run_reading):
        [tally] = run(folder / run.__name__, step=47)
        assert tally.notes == []
        assert tally.tried >= 50


def test_a_fault_strikes_its_call_alone_and_a_lasting_one_all_that_follow(folder: Path) -> None:
    for lasting, outcome in ((False, ["EIO", "done"]), (True, ["EIO", "EIO"])):
        with watched_calls(folder, Injector(Fault(2, lasting=lasting))):
            os.stat(folder)  # noqa: PTH116
            assert [stat(folder), stat(folder)] == outcome
        assert stat(folder) == "done"


def stat(path: Path) -> str:
    try:
        os.stat(path)  # noqa: PTH116  the call that is counted
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "done"


def test_a_short_write_writes_half(folder: Path) -> None:
    with watched_calls(folder, Injector(Fault(2, short=True))):
        fd = os.open(folder / "file", os.O_WRONLY | os.O_CREAT)
        assert os.write(fd, b"four") == 2
        os.close(fd)
    assert (folder / "file").read_bytes() == b"fo"


def test_calls_elsewhere_are_not_counted(folder: Path) -> None:
    injector = Injector(Fault(1))
    with watched_calls(folder / "store", injector):
        (folder / "store2").mkdir()
        with pytest.raises(OSError, match="injected EIO"):
            (folder / "store").mkdir()
    assert injector.names == ["mkdir"]
