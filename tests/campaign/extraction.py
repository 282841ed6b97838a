"""A small extraction that writes every kind of file a store has, and what must be true of its store at any time.

All numbers follow from an image's index (tests/store/making.py), so that a wrong one is seen exactly. Each step is
reported once it returned: from then on nothing, a power cut included, may take it away.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from kvtool.errors import BusyError, StoreError
from kvtool.store import Run, Store, indexes, open_store, part_name
from kvtool.store.encoding import Bits
from kvtool.store.files import write_file
from kvtool.store.verify import Problem, verify
from kvtool.types import Sample
from tests.campaign.tally import Tally
from tests.store.making import commit, config, image_arrays, sample

Report = Callable[[str], object]

PART_SIZE = 2
CONFIG = config(name="small", kinds=("value",), n_images_total=6)
OTHER = config(name="other", kinds=("value",), ids_hash="89ab")
IMAGES = [sample(index) for index in range(6)]
TEXTS = ("a cat", "ein Hund")
TEXT_VALUES: Bits = np.arange(2 * 2 * 2 * 8, dtype=np.uint16).reshape(2, 2, 2, 8)
"""(text, layer, kv_head, dim)"""
RESULTS = ({"score": 0.25}, {"score": 0.75, "over": [1, 2]})
PICTURES = (("one.png", b"not a png, but bytes"), ("questions.jsonl", b'{"question": 1}\n'))
INDEX = np.arange(300, dtype=np.uint8)
KEY, INDEX_NAME = "0123456789abcdef", "value-1-0-test"
STORE, RUN, TEXT, DRAWN, INDEXED, OTHER_RUN, REMOVED = "store run text drawn indexed other removed".split()
FIRST_RESULT, SECOND_RESULT = "first result", "second result"


def part_names() -> list[str]:
    return [part_name(start, start + PART_SIZE) for start in range(0, len(IMAGES), PART_SIZE)]


STEPS = (STORE, RUN, *part_names(), TEXT, FIRST_RESULT, SECOND_RESULT, DRAWN, INDEXED, OTHER_RUN, REMOVED)
"""Every step in order, as it is reported."""


def extract(path: Path, report: Report = lambda _: None) -> None:
    """The whole small extraction; what is there already is not written again, but for results."""
    store = open_store(path, create=True)
    report(STORE)
    run = store.create_run(CONFIG)
    report(RUN)
    extract_parts(run, report)
    run.commit_text(TEXTS, TEXT_VALUES)
    report(TEXT)
    for step, result in zip((FIRST_RESULT, SECOND_RESULT), RESULTS, strict=True):
        store.save_result(KEY, result)
        report(step)
    store.keep_pictures(KEY, PICTURES)
    report(DRAWN)
    keep_index(run)
    report(INDEXED)
    store.create_run(OTHER)
    report(OTHER_RUN)
    store.remove_run(OTHER.name)
    report(REMOVED)


def extract_parts(run: Run, report: Report = lambda _: None, images: Iterable[Sample] = IMAGES) -> bool:
    """Claim and commit the parts that are missing, as a worker does. Whether no other worker held one of them."""
    images, all_mine = list(images), True
    for start in range(0, len(images), PART_SIZE):
        name, wanted = part_name(start, start + PART_SIZE), images[start : start + PART_SIZE]
        if not set(range(start, start + len(wanted))) <= run.covered_indices():
            try:
                with run.claim(name):
                    commit(run, wanted, name)
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
    """Bytes of every file below a folder, by path; an empty folder ends with a slash."""
    contents = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file():
            contents[name] = path.read_bytes()
        elif not any(path.iterdir()):
            contents[f"{name}/"] = b""
    return contents


def check_after_cut(path: Path, reported: Collection[str], whole: dict[str, bytes], tally: Tally, what: str) -> None:
    """Open, verify and read what a cut left; then run the extraction again: it must end as an unbroken one did.

    whole: `tree` of the unbroken store. What is not so is counted in `tally`.
    """
    tally.tried += 1
    with tally.watched(f"{what}: opened"):
        check_holds(path, reported, tally, what)
    with tally.watched(f"{what}: resumed"):
        extract(path)
        check_complete(path, whole, tally, what)


def check_complete(path: Path, whole: dict[str, bytes], tally: Tally, what: str) -> None:
    """Nothing is missing, nothing too much, no byte differs."""
    check_holds(path, STEPS, tally, what)
    for problem in verify(open_store(path)):
        tally.count("wrong", f"{what}: at the end: {problem.what}")
    check_same(path, whole, tally, what)


def check_same(path: Path, whole: dict[str, bytes], tally: Tally, what: str) -> None:
    """Every file of a store is there with the bytes of an unbroken one, and no other."""
    contents = tree(path)
    for name in sorted(contents.keys() ^ whole.keys()):
        tally.count("lost" if name in whole else "doubled", f"{what}: at the end: {name}")
    for name in sorted(contents.keys() & whole.keys()):
        if contents[name] != whole[name]:
            tally.count("wrong", f"{what}: at the end: the bytes of {name}")


def check_holds(path: Path, reported: Collection[str], tally: Tally, what: str) -> None:
    """What was reported is there, and what is there is whole and right."""
    try:
        store = open_store(path)
    except StoreError as error:
        if STORE in reported or not _is_unmade(path):
            tally.count("lost", f"{what}: {error}")
        return
    for problem in verify(store):
        if not is_leftover(problem):
            tally.count("wrong", f"{what}: {problem.run} {problem.part} {problem.array} {problem.what}")
    if CONFIG.name in store.runs():
        run = store.run(CONFIG.name)
        check_parts(run, reported, tally, what)
        check_texts(run, reported, tally, what)
        check_index(run, reported, tally, what)
    elif RUN in reported:
        tally.count("lost", f"{what}: the run")
    if (OTHER.name in store.runs()) if REMOVED in reported else False:
        tally.count("doubled", f"{what}: a removed run came back")
    check_results(store, reported, tally, what)
    check_pictures(store, reported, tally, what)


def _is_unmade(path: Path) -> bool:
    """Whether a store was never made, or not to the end; making it again is what `extract` does."""
    return not (path / "zarr.json").exists()


def is_leftover(problem: Problem) -> bool:
    """What a process that is gone left in tmp/: nobody reads it, and the next writer sweeps it."""
    return "left by a process that is gone" in problem.what


def check_parts(run: Run, reported: Collection[str], tally: Tally, what: str, images: Iterable[Sample] = IMAGES) -> None:
    """Images by index: those of reported parts are there, none is there twice, each has the planted values."""
    planted = {image.index: image for image in images}
    stored = [index for part in run.parts() for index in part.indices]
    for index in {index for index in stored if stored.count(index) > 1}:
        tally.count("doubled", f"{what}: image {index}")
    for index in planted.keys() - set(stored):
        if part_name(index - index % PART_SIZE, index - index % PART_SIZE + PART_SIZE) in reported:
            tally.count("lost", f"{what}: image {index}")
    run.refresh()
    for found in run.samples:
        if found != planted.get(found.index) or not _has_planted_values(run, found):
            tally.count("wrong", f"{what}: image {found.index}")


def _has_planted_values(run: Run, image: Sample) -> bool:
    arrays, planted = run.read_image(image.id, raw=True), image_arrays(run.config, image)
    return arrays.keys() == planted.keys() and all(
        arrays[name].tobytes() == values.tobytes() for name, values in planted.items()
    )


def check_texts(run: Run, reported: Collection[str], tally: Tally, what: str) -> None:
    names = run.text_names
    if len(names) != len(set(names)):
        tally.count("doubled", f"{what}: texts {names}")
    if set(names) != set(TEXTS):
        if TEXT in reported:
            tally.count("lost", f"{what}: texts {names}")
        return
    for stored, layer in enumerate(CONFIG.layers):
        for head in range(2):
            if run.text_values(layer, head, raw=True).tobytes() != TEXT_VALUES[:, stored, head].tobytes():
                tally.count("wrong", f"{what}: texts of layer {layer}, head {head}")


def check_index(run: Run, reported: Collection[str], tally: Tally, what: str) -> None:
    loaded = indexes.load(run, INDEX_NAME)
    if loaded is None:
        if INDEXED in reported:
            tally.count("lost", f"{what}: the index")
        return
    for piece in range(2):
        loaded[1]["vectors.index"].check(piece)


def check_results(store: Store, reported: Collection[str], tally: Tally, what: str) -> None:
    """The last reported result, or the one that was on its way."""
    allowed = [None, *RESULTS][max(step in reported for step in (FIRST_RESULT,)) + (SECOND_RESULT in reported) :]
    result = store.load_result(KEY)
    if result not in allowed:
        tally.count("lost" if result is None or result in RESULTS else "wrong", f"{what}: result {result}")


def check_pictures(store: Store, reported: Collection[str], tally: Tally, what: str) -> None:
    folder = store.pictures_dir(KEY)
    with suppress(FileNotFoundError):
        if not {(name, (folder / name).read_bytes()) for name, _ in PICTURES} == set(PICTURES):
            tally.count("wrong", f"{what}: pictures")
        return
    if DRAWN in reported or folder.exists():
        tally.count("lost", f"{what}: pictures")
