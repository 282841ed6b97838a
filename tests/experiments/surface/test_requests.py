"""What `kvtool surface` cannot answer is refused in its own name, with what to do there."""

from __future__ import annotations

from pathlib import Path

import pytest

import kvtool
from kvtool.errors import UsageError
from kvtool.store import Run
from tests.support.paired import planted_run, questions_of


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> Run:
    questions = questions_of(scenes / "blink", "Art_Style")
    path = tmp_path_factory.mktemp("planted") / "s.kv"
    return planted_run(path, scenes / "blink" / "Art_Style", questions, set(range(12)))


def refusal(run: Run, task: str, n: int | None = None) -> str:
    """Return the line that the command ends with."""
    with pytest.raises(UsageError) as caught:
        kvtool.surface(run.store, task, n=n)
    return str(caught.value)


@pytest.mark.slow
def test_a_single_question_cannot_be_halved(run: Run) -> None:
    line = refusal(run, "art-style", n=1)
    assert line.startswith("surface art-style: expected two questions or more")
    assert line.endswith("found one; raise --limit or extract more pictures")
    # Options of paired are not its options.
    assert "--select" not in line
    assert "paired" not in line


@pytest.mark.slow
def test_a_run_that_holds_none_of_the_pictures(run: Run) -> None:
    line = refusal(run, "visual-similarity")
    assert line.startswith("surface visual-similarity: expected questions of Visual_Similarity")
    assert "kvtool extract" in line
    assert "paired visual" not in line


@pytest.mark.slow
def test_a_store_without_a_run_that_serves(run: Run) -> None:
    line = refusal(run, "semantic-correspondence")
    assert line.startswith(f"surface semantic-correspondence: run {run.name} is over blink")
