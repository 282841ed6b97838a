"""An ext4 image whose power is cut while an extraction writes to it.

Two images, one inside the other: the store lies on the inner one, and the inner image is a file of
the outer one. Freezing the outer file system (FIFREEZE) stops all writes to the inner image at
once, between two of its blocks and in the midst of whatever the inner file system does, without
telling it; the writer is not stopped and nothing is flushed. So the copy that is then taken is what
a disk would hold after a power cut: what the inner file system had not yet sent to its device is
missing, its journal has to be replayed. It needs root, loop devices, mount and mkfs.ext4.
"""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.campaign.checks import check_after_cut
from tests.campaign.children import Child
from tests.campaign.extraction import extract, tree
from tests.campaign.tally import Tally

OUTER_NBYTES, INNER_NBYTES = 48 << 20, 16 << 20
FIFREEZE, FITHAW = 0xC0045877, 0xC0045878
MODES = ("data=ordered", "data=writeback,noauto_da_alloc", "data=ordered,commit=1")


def missing() -> str:
    """Why there can be no power cuts here; empty where there can."""
    if os.geteuid() != 0:
        return "mounting an image needs root"
    absent = [tool for tool in ("mount", "umount", "mkfs.ext4") if shutil.which(tool) is None]
    if absent:
        return f"no {', '.join(absent)} here"
    if not Path("/dev/loop-control").exists():
        return "no loop devices here"
    return ""


@contextmanager
def mounted(image: Path, mountpoint: Path, options: str = "") -> Iterator[Path]:
    """The file system of an image, at `mountpoint`."""
    mountpoint.mkdir(exist_ok=True)
    _run("mount", "-o", f"loop,{options}".rstrip(","), str(image), str(mountpoint))
    try:
        yield mountpoint
    finally:
        _run("umount", str(mountpoint))


def make_image(path: Path, nbytes: int) -> Path:
    with path.open("wb") as file:
        file.truncate(nbytes)
    _run("mkfs.ext4", "-q", "-F", "-m", "0", str(path))
    return path


@contextmanager
def frozen(mountpoint: Path) -> Iterator[None]:
    """No write reaches the file system at `mountpoint` meanwhile; who writes waits."""
    fd = os.open(mountpoint, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, FIFREEZE, 0)
        try:
            yield
        finally:
            fcntl.ioctl(fd, FITHAW, 0)
    finally:
        os.close(fd)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


def run(folder: Path, seed: int, cuts: int) -> list[Tally]:
    """This many power cuts, each of an extraction into a new store.

    Empty where images cannot be mounted.
    """
    if missing():
        return []
    tally, rng = Tally("power: cuts of a mounted ext4"), random.Random(seed)
    extract(folder / "whole.kv")
    expected = tree(folder / "whole.kv")
    with mounted(make_image(folder / "outer.img", OUTER_NBYTES), folder / "outer") as outer:
        laboratory = Laboratory(folder, outer)
        unbroken_s = laboratory.cut(MODES[0], None)[1]
        for number in range(cuts):
            mode = MODES[number % len(MODES)]
            reported, _ = laboratory.cut(mode, rng.uniform(0, unbroken_s))
            what = f"cut {number} ({mode}) after {len(reported)} steps"
            with mounted(laboratory.copy, folder / "replayed") as replayed:
                check_after_cut(replayed / "small.kv", reported, expected, tally, what)
    return [tally]


@dataclass(frozen=True)
class Laboratory:
    """Where power is cut: a folder, and a mounted file system whose files are the disks."""

    folder: Path
    outer: Path

    @property
    def copy(self) -> Path:
        return self.folder / "cut.img"

    def cut(self, mode: str, after_s: float | None) -> tuple[list[str], float]:
        """Run an extraction on a new image and copy that at a moment (None: at the end).

        Returns the steps that were reported before, and the seconds that the extraction ran.
        """
        image = make_image(self.outer / "inner.img", INNER_NBYTES)
        with mounted(image, self.folder / "inner", mode) as inner:
            started = time.monotonic()
            child = Child(lambda report: extract(inner / "small.kv", report))
            if after_s is None:
                return child.wait().reports, time.monotonic() - started
            time.sleep(after_s)
            reported = child.reports()
            with frozen(self.outer):
                shutil.copyfile(image, self.copy)
            child.kill()
        return reported, after_s
