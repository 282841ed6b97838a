"""Benchmarks' questions in POPE's and MME's layout: a model that looks evenly at all tokens has the
share of picture tokens among them as its mass.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import kvtool
from kvtool.asking.benchmarks import open_benchmark
from kvtool.datasets.base import Question
from kvtool.datasets.protocols import HasQuestions
from kvtool.engine.run_model import load_run_model
from kvtool.errors import KvtoolError
from kvtool.store import Run
from tests.support import tiny
from tests.support.planted import (
    KV_HEADS,
    LAYERS,
    Q_HEADS,
    planted_mme,
    planted_model,
    planted_pope,
)

N_IMAGES = 3


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("benchmarks")
    planted_pope(root / "pope", N_IMAGES)
    planted_mme(root / "mme", N_IMAGES)
    (root / "own").mkdir()
    tiny.noise(40, 40).save(root / "own" / "a.png")
    return root


@pytest.fixture(scope="module")
def run(root: Path) -> Run:
    """A run over another data set: the benchmarks' pictures are extracted by the call."""
    model = planted_model(root / "model")
    report = kvtool.extract(
        root / "s.kv", model=str(model), dataset=f"folder:{root / 'own'}", kinds=("key", "value")
    )
    return kvtool.open(root / "s.kv").run(report.run)


def questions_of(spec: str) -> list[Question]:
    _, dataset = open_benchmark(spec)
    assert isinstance(dataset, HasQuestions)
    return dataset.questions()


def even_mass(run: Run, questions: Sequence[Question]) -> float:
    """The mean share of a picture's tokens among all that the last token of each prompt sees."""
    model = load_run_model(run, None, "cpu")
    shares = []
    for question in questions:
        sample = run.image(question.image_ids[0]).sample
        n_text = len(model.token_ids(model.question(question.prompt)))
        shares.append(sample.n_tokens / (model.image_end(sample) + n_text))
    return float(np.mean(shares))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "n"), [("pope", 6 * N_IMAGES), ("mme", 4 * N_IMAGES)])
def test_each_question_is_asked_of_its_picture(run: Run, root: Path, name: str, n: int) -> None:
    spec = f"{name}:{root / name}"
    result = kvtool.attend(run, benchmark=spec)
    assert (result.n, result.n_skipped, len(result.rows)) == (n, 0, LAYERS * Q_HEADS)
    assert (result.metric, result.config["benchmark"]) == ("mass", spec)
    assert result.config["run"] != run.name
    benchmark_run = kvtool.open(run.store).run(result.config["run"])
    expected = even_mass(benchmark_run, questions_of(spec))
    for row in result.rows:
        assert row["kv_head"] == row["q_head"] * KV_HEADS // Q_HEADS
        assert row["mass"] == pytest.approx(expected, abs=1e-5)
        assert row["mass_low"] <= row["mass"] <= row["mass_high"]
        assert row["entropy"] == pytest.approx(1, abs=1e-5)
    # The localization heads are chosen on half of the pictures, with all of their questions.
    n_pictures = result.rows[0]["n_resampled"]
    assert result.config["localization"]["n_chosen"] == n // n_pictures * (n_pictures // 2)


@pytest.mark.slow
def test_pictures_by_name_and_by_number(run: Run, root: Path) -> None:
    spec = f"pope:{root / 'pope'}"
    assert kvtool.attend(run, benchmark=spec, limit=1, from_="answer").n == 6
    words = kvtool.attend(run, benchmark=spec, from_="cat", limit=2)
    assert (words.n, words.n_skipped) == (6, 6)  # the others ask about a dog
    assert "expected the word 'cat' in it" in words.skipped[0]


@pytest.mark.slow
def test_a_picture_that_is_not_there_costs_its_questions(run: Run, tmp_path: Path) -> None:
    folder = planted_pope(tmp_path / "pope", N_IMAGES)
    (folder / "val2014" / "001.png").write_bytes(b"no picture")
    result = kvtool.attend(run, benchmark=f"pope:{folder}")
    assert (result.n, result.n_skipped) == (12, 6)
    assert all("001.png" in line for line in result.skipped)
    (folder / "coco_pope_random.json").write_text("")
    with pytest.raises(KvtoolError) as error:
        kvtool.attend(run, benchmark=f"pope:{folder}")
    assert len(str(error.value).splitlines()) == 1
