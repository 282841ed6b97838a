"""What must be true of the store of a small extraction at any time, and at its end."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from kvtool.errors import StoreError
from kvtool.store import Run, Store, indexes, open_store, part_name
from kvtool.store.verify import Problem, verify
from kvtool.types import Sample
from tests.campaign.extraction import (
    CONFIG,
    FIRST_RESULT,
    IMAGES,
    INDEX_NAME,
    INDEXED,
    KEY,
    PART_SIZE,
    PICTURED,
    PICTURES,
    REMOVED,
    RESULTS,
    RUN,
    SECOND,
    SECOND_RESULT,
    STEPS,
    STORE,
    TEXT,
    TEXT_VALUES,
    TEXTS,
    extract,
    tree,
)
from tests.campaign.tally import Tally
from tests.support.runs import image_arrays


def check_after_cut(
    path: Path, reported: Collection[str], expected: dict[str, bytes], tally: Tally, what: str
) -> None:
    """Open, verify and read what a cut left; then run the extraction again: it must end as an
    unbroken one did.

    expected: `tree` of the unbroken store. What is not so is counted in `tally`.
    """
    tally.tried += 1
    with tally.watched(f"{what}: opened"):
        check_holds(path, reported, tally, what)
    with tally.watched(f"{what}: resumed"):
        extract(path)
        check_complete(path, expected, tally, what)


def check_complete(path: Path, expected: dict[str, bytes], tally: Tally, what: str) -> None:
    """Nothing is missing, nothing too much, no byte differs."""
    check_holds(path, STEPS, tally, f"{what}: at the end", is_swept=True)
    check_same(path, expected, tally, what)


def check_same(path: Path, expected: dict[str, bytes], tally: Tally, what: str) -> None:
    """Every file of a store is there with the bytes of an unbroken one, and no other."""
    contents = tree(path)
    for name in sorted(contents.keys() ^ expected.keys()):
        tally.count("lost" if name in expected else "doubled", f"{what}: at the end: {name}")
    for name in sorted(contents.keys() & expected.keys()):
        if contents[name] != expected[name]:
            tally.count("wrong", f"{what}: at the end: the bytes of {name}")


def check_holds(
    path: Path, reported: Collection[str], tally: Tally, what: str, is_swept: bool = False
) -> None:
    """What was reported is there, and what is there is whole and right.

    is_swept: a writer that nothing disturbed came last, and nothing may lie in tmp/.
    """
    try:
        store = open_store(path)
    except StoreError as error:
        if STORE in reported or not _is_unmade(path):
            tally.count("lost", f"{what}: {error}")
        return
    for problem in verify(store):
        if is_swept or not is_leftover(problem):
            tally.count(
                "wrong", f"{what}: {problem.run} {problem.part} {problem.array} {problem.what}"
            )
    if CONFIG.name in store.runs():
        run = store.run(CONFIG.name)
        check_parts(run, reported, tally, what)
        check_texts(run, reported, tally, what)
        check_index(run, reported, tally, what)
    elif RUN in reported:
        tally.count("lost", f"{what}: the run")
    if REMOVED in reported and SECOND.name in store.runs():
        tally.count("doubled", f"{what}: a removed run came back")
    check_results(store, reported, tally, what)
    check_pictures(store, reported, tally, what)


def _is_unmade(path: Path) -> bool:
    """Whether a store was never made, or not to the end; making it again is what `extract` does."""
    return not (path / "zarr.json").exists()


def is_leftover(problem: Problem) -> bool:
    """What a process that is gone left in tmp/: nobody reads it, and the next writer sweeps it."""
    return "left by a process that is gone" in problem.what


def check_parts(
    run: Run, reported: Collection[str], tally: Tally, what: str, images: Iterable[Sample] = IMAGES
) -> None:
    """Images by index: those of reported parts are there, none is there twice, each has the planted
    values.
    """
    planted = {image.index: image for image in images}
    stored = [index for part in run.parts() for index in part.indices]
    for index in {index for index in stored if stored.count(index) > 1}:
        tally.count("doubled", f"{what}: image {index}")
    for index in planted.keys() - set(stored):
        if part_name(index - index % PART_SIZE, index - index % PART_SIZE + PART_SIZE) in reported:
            tally.count("lost", f"{what}: image {index}")
    run.refresh()
    for image in run.samples:
        if image != planted.get(image.index) or not _has_planted_values(run, image):
            tally.count("wrong", f"{what}: image {image.index}")


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
            if (
                run.text_values(layer, head, raw=True).tobytes()
                != TEXT_VALUES[:, stored, head].tobytes()
            ):
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
    oldest = sum(step in reported for step in (FIRST_RESULT, SECOND_RESULT))
    result = store.load_result(KEY)
    if result not in [None, *RESULTS][oldest:]:
        tally.count(
            "lost" if result is None or result in RESULTS else "wrong", f"{what}: result {result}"
        )


def check_pictures(store: Store, reported: Collection[str], tally: Tally, what: str) -> None:
    folder = store.pictures_dir(KEY)
    try:
        if any((folder / name).read_bytes() != data for name, data in PICTURES):
            tally.count("wrong", f"{what}: pictures")
        return
    except FileNotFoundError:
        pass
    except OSError:  # the call that is to fail was this one
        return
    if PICTURED in reported or folder.exists():
        tally.count("lost", f"{what}: pictures")
