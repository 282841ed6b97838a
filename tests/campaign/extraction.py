"""A small extraction that writes every kind of file a store has.

All numbers follow from an image's index (tests/support/runs.py), so that a wrong one is seen
exactly. Each step is reported once it returned: from then on nothing, a power cut included, may
take it away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from kvtool.errors import BusyError
from kvtool.store import Run, indexes, open_store, part_name
from kvtool.store.encoding import Bits
from kvtool.store.files import write_file
from kvtool.types import Sample
from tests.support.runs import commit, config, create_run, sample

Report = Callable[[str], object]

PART_SIZE = 2
CONFIG = config(name="small", kinds=("value",))
SECOND = config(name="other", kinds=("value",), prefix="random")
IMAGES = [sample(index) for index in range(6)]
TEXTS = ("a cat", "ein Hund")
TEXT_VALUES: Bits = np.arange(2 * 2 * 2 * 8, dtype=np.uint16).reshape(2, 2, 2, 8)
"""(text, layer, kv_head, dim)"""
RESULTS: tuple[dict[str, Any], ...] = ({"score": 0.25}, {"score": 0.75, "over": [1, 2]})
PICTURES = (("one.png", b"not a png, but bytes"), ("questions.jsonl", b'{"question": 1}\n'))
INDEX = np.arange(300, dtype=np.uint8)
KEY, INDEX_NAME = "0123456789abcdef", "value-1-0-test"
STORE, RUN, TEXT, PICTURED, INDEXED = "store", "run", "text", "drawn", "indexed"
FIRST_RESULT, SECOND_RESULT = "first result", "second result"
OTHER_RUN, REMOVED = "other run", "other run removed"


def part_names() -> list[str]:
    return [part_name(start, start + PART_SIZE) for start in range(0, len(IMAGES), PART_SIZE)]


STEPS = (
    STORE,
    RUN,
    *part_names(),
    TEXT,
    FIRST_RESULT,
    SECOND_RESULT,
    PICTURED,
    INDEXED,
    OTHER_RUN,
    REMOVED,
)
"""Every step in order, as it is reported."""


def extract(path: Path, report: Report = lambda _: None) -> None:
    """The whole small extraction; what is there already is not written again, but for results."""
    store = open_store(path, create=True)
    report(STORE)
    run = create_run(store, CONFIG)
    report(RUN)
    extract_parts(run, report)
    run.commit_text(TEXTS, TEXT_VALUES)
    report(TEXT)
    for step, result in zip((FIRST_RESULT, SECOND_RESULT), RESULTS, strict=True):
        store.save_result(KEY, result)
        report(step)
    store.keep_pictures(KEY, PICTURES)
    report(PICTURED)
    keep_index(run)
    report(INDEXED)
    create_run(store, SECOND)
    report(OTHER_RUN)
    store.remove_run(SECOND.name)
    report(REMOVED)


def extract_parts(
    run: Run, report: Report = lambda _: None, images: Iterable[Sample] = IMAGES
) -> bool:
    """Claim and commit the parts that are missing, as a worker does.

    Whether no other worker held one of them.
    """
    images, all_mine = list(images), True
    for start in range(0, len(images), PART_SIZE):
        name, batch = part_name(start, start + PART_SIZE), images[start : start + PART_SIZE]
        if not set(range(start, start + len(batch))) <= run.covered_indices():
            try:
                with run.claim(name):
                    commit(run, batch, name)
            except BusyError:
                all_mine = False
                continue
        report(name)
    return all_mine


def keep_index(run: Run) -> None:
    def write(folder: Path) -> tuple[dict[str, Any], dict[str, indexes.Pieces]]:
        write_file(folder / "vectors.index", INDEX)
        return {"recall": 1.0}, {"vectors.index": indexes.describe(INDEX, [100, 200])}

    if indexes.load(run, INDEX_NAME) is None:
        indexes.keep(run, INDEX_NAME, write)


def tree(folder: Path) -> dict[str, bytes]:
    """Bytes of every file below a folder, by path; an empty folder ends with a slash.

    The ledger is left out: an entry that a crash took is only not missed, and verify compares the
    others.
    """
    contents = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if "ledger" in path.relative_to(folder).parts:
            continue
        if path.is_file():
            contents[name] = path.read_bytes()
        elif not any(path.iterdir()):
            contents[f"{name}/"] = b""
    return contents
