"""The same command in several processes at once: nothing is computed twice, nothing is lost, each
says how it ended.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import kvtool
from kvtool.store.verify import verify
from tests.experiments.workers import Worker, counts
from tests.support.planted import NOISY, planted_model, planted_pope

pytestmark = pytest.mark.slow

N_IMAGES, N_ANSWERS = 8, 8 * 6 * 2
"""Six questions an image, with no head blocked and with the chosen ones, all of which are late."""


@pytest.fixture(scope="module")
def pope(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted_pope(tmp_path_factory.mktemp("benchmarks") / "pope", N_IMAGES)


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory, pope: Path) -> Path:
    """A store of which nothing was asked."""
    folder = tmp_path_factory.mktemp("extracted")
    model = planted_model(folder / "model")
    kvtool.extract(
        folder / "s.kv", model=str(model), dataset=f"pope:{pope}", kinds=("key", "value")
    )
    return folder / "s.kv"


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("heads") / "heads.jsonl"
    path.write_text(
        "".join(
            json.dumps({"layer": layer, "kv_head": head}) + "\n" for layer, head in sorted(NOISY)
        )
    )
    return path


@pytest.fixture(scope="module")
def expected(
    tmp_path_factory: pytest.TempPathFactory, extracted: Path, pope: Path, heads: Path
) -> str:
    """The rows of one worker."""
    store = shutil.copytree(extracted, tmp_path_factory.mktemp("alone") / "s.kv")
    log = store.parent / "log"
    code, out, _ = Worker(log, "answers", *knockout(store, pope, heads)).end()
    assert (code, sum(counts(log))) == (0, N_ANSWERS)
    return out


@pytest.fixture
def store(tmp_path: Path, extracted: Path) -> Path:
    return shutil.copytree(extracted, tmp_path / "s.kv")


def knockout(store: Path, pope: Path, heads: Path, *options: object) -> tuple[object, ...]:
    benchmark = ("--benchmark", f"pope:{pope}", "--heads", heads, "--max-new-tokens", 1)
    return ("knockout", store, *benchmark, "--format", "jsonl", *options)


def kept_answers(store: Path) -> dict[str, Any]:
    """What is kept of each image."""
    records = [record for record in kvtool.open(store).results() if record.get("kind") == "answers"]
    assert len({record["image"] for record in records}) == len(records)
    return {record["image"]: record["answers"] for record in records}


def test_two_share_the_images(
    tmp_path: Path, store: Path, pope: Path, heads: Path, expected: str
) -> None:
    log, command = tmp_path / "log", knockout(store, pope, heads)
    first = Worker(log, "answers", *command, stop_at=3).holding()
    holder = f"process {first.process.pid} on "
    (claim,) = kvtool.open(store).run().info()["held"]
    assert claim.startswith("answers-002-")
    assert f" by {holder}" in claim
    second = Worker(log, "answers", *command).end()
    assert (second[0], second[1], len(counts(log))) == (0, "", N_IMAGES)
    last = second[2].splitlines()[-1]
    assert last.startswith("kvtool: this process did its share, ")
    assert f"; 1 of {N_IMAGES} images are held by others: answers-002-" in last
    assert holder in last
    third = Worker(log, "answers", *command).end()
    assert third[:2] == (3, "")
    assert f"kvtool: 1 of {N_IMAGES} images are held by others: answers-002-" in third[2]
    assert holder in third[2]
    code, out, _ = first.end()
    assert (code, out) == (0, expected)
    assert Worker(log, "answers", *command).end()[:2] == (0, expected)
    assert counts(log) == [N_ANSWERS // N_IMAGES] * N_IMAGES
    assert len(kept_answers(store)) == N_IMAGES
    assert verify(kvtool.open(store)) == []


def test_a_killed_worker_frees_its_image_and_keeps_its_answers(
    tmp_path: Path, store: Path, pope: Path, heads: Path, expected: str
) -> None:
    log, command = tmp_path / "log", knockout(store, pope, heads)
    first = Worker(log, "answers", *command, stop_at=3).holding()
    first.kill()
    before = kept_answers(store)
    assert sorted(before) == ["000", "001"]
    code, out, _ = Worker(log, "answers", *command).end()
    assert (code, out) == (0, expected)
    assert len(counts(log)) == N_IMAGES + 1  # once more what the killed one had in hand
    assert before.items() <= kept_answers(store).items()
    assert kvtool.open(store).run().holders() == {}


def test_who_waits_gives_the_whole(
    tmp_path: Path, store: Path, pope: Path, heads: Path, expected: str
) -> None:
    """And so does one that waits for a process that is killed meanwhile."""
    for end in (Worker.end, Worker.kill):
        log, copy = (
            tmp_path / f"log-{end.__name__}",
            shutil.copytree(store, tmp_path / f"{end.__name__}.kv"),
        )
        first = Worker(log, "answers", *knockout(copy, pope, heads), stop_at=1).holding()
        waiting = Worker(
            log, "answers", *knockout(copy, pope, heads, "--wait", 600), stop_at=N_IMAGES - 1
        ).holding()
        end(
            first
        )  # while the other one is still at its last image: whether it has to wait is not said
        assert waiting.end()[:2] == (0, expected)
        assert len(counts(log)) == N_IMAGES + (end is Worker.kill)


def test_other_conditions_over_the_same_image_lose_no_answer(
    tmp_path: Path, store: Path, pope: Path, heads: Path, expected: str
) -> None:
    """Both would read an image's answers, add theirs and write all of them."""
    log, command = tmp_path / "log", knockout(store, pope, heads)
    first = Worker(log, "answers", *command, stop_at=1).holding()
    controls = Worker(log, "answers", *knockout(store, pope, heads, "--controls", "random")).end()
    assert controls[:2] == (0, "")
    first.end()
    assert Worker(log, "answers", *command).end()[:2] == (0, expected)
    assert (
        Worker(log, "answers", *knockout(store, pope, heads, "--controls", "random")).end()[0] == 0
    )
    assert sum(counts(log)) == N_ANSWERS + N_ANSWERS // 2
    assert {len(answers) for answers in kept_answers(store).values()} == {3}


def test_fresh_answers_leave_those_of_other_conditions(
    store: Path, pope: Path, heads: Path
) -> None:
    options: dict[str, Any] = {"max_new_tokens": 1}
    kvtool.knockout(store, f"pope:{pope}", heads, **options)
    before = kept_answers(store)
    kvtool.knockout(store, f"pope:{pope}", [(0, 0)], fresh=True, **options)
    after = kept_answers(store)
    assert all(before[image].items() <= after[image].items() for image in before)


def test_a_store_that_cannot_be_claimed_in_is_asked_all_the_same(
    tmp_path: Path, store: Path, pope: Path, heads: Path, expected: str
) -> None:
    (store / "runs" / kvtool.open(store).run().name / "locks").rename(store.parent / "locks")
    assert Worker(tmp_path / "log", "answers", *knockout(store, pope, heads)).end()[:2] == (
        0,
        expected,
    )
