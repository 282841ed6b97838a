"""Trees of files for one input each: a quick copy of the seeds, of which one file or folder is made
hostile.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.fuzz import mutate

Damage = Callable[[random.Random, bytes], bytes]

BY_SUFFIX: dict[str, Damage] = {
    ".json": mutate.hostile_json,
    ".jsonl": mutate.hostile_json,
    ".csv": mutate.hostile_text,
    ".txt": mutate.hostile_text,
}


def copy_tree(source: Path, target: Path) -> None:
    """Hard links to the files of a tree: nobody writes into a file, a changed one is another
    file.
    """
    shutil.copytree(source, target, copy_function=os.link, symlinks=True)


def write(path: Path, data: bytes) -> None:
    """Another file in the place of one, so that the seeds keep theirs."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def files_of(root: Path) -> list[Path]:
    """Regular files below a folder, in a fixed order."""
    return sorted(path for path in root.rglob("*") if path.is_file())


def regular_bytes(path: Path) -> bytes:
    """A file's content; nothing of one that was damaged before into something that cannot be
    read.
    """
    try:
        return path.read_bytes()
    except OSError:
        return b""


def damage_one(rng: random.Random, path: Path) -> None:
    """Hostile content for one file, as fits its suffix."""
    write(path, BY_SUFFIX.get(path.suffix, mutate.hostile_bytes)(rng, regular_bytes(path)))


def damage_tree(rng: random.Random, files: Sequence[Path]) -> None:
    """Hostile content in one or two of the files; now and then something that is no file, or other
    files' content.
    """
    for _ in range(rng.choice((1, 1, 1, 2))):
        path = rng.choice(files)
        if not path.is_file():
            continue
        change = rng.random()
        if change < 0.12:
            odd_file(rng, path)
        elif change < 0.17:
            write(path, regular_bytes(rng.choice([file for file in files if file.is_file()])))
        else:
            damage_one(rng, path)


def odd_file(rng: random.Random, path: Path) -> None:
    """Something that is not a regular file of content in the place of one, or nothing."""
    path.unlink()
    odd = rng.choice(
        (
            "gone",
            "folder",
            "fifo",
            "loop",
            "dangling",
            "device",
            "memory",
            "empty",
            "renamed",
            "full",
        )
    )
    if odd == "folder":
        path.mkdir()
    elif odd == "fifo":
        os.mkfifo(path)
    elif odd == "loop":
        path.symlink_to(path.name)
    elif odd == "dangling":
        path.symlink_to("nothing-here")
    elif odd == "device":
        path.symlink_to(rng.choice(("/dev/zero", "/dev/null", "/dev/tty")))
    elif odd == "memory":
        path.symlink_to("/proc/self/mem")
    elif odd == "empty":
        path.touch()
    elif odd == "renamed":
        name = rng.choice(
            (b"\xff\xfe.png", b"a\nb.json", b"-rf", b" ", b"\x1b[31m.png", b".hidden")
        )
        (path.parent / os.fsdecode(name)).write_bytes(b"x")
    elif odd == "full":
        path.mkdir()
        (path / "inner").write_bytes(b"x")
