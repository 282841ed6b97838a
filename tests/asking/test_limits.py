"""What the limit on a benchmark's pictures counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvtool.asking.benchmarks import open_benchmark, unaskable
from kvtool.asking.head_questions import limited_pictures
from tests.support.datasets.questions import blink


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_pictures_count_that_can_be_asked_about(tmp_path: Path, limit: int) -> None:
    """Questions about several pictures come first in BLINK, and are never asked."""
    _, dataset = open_benchmark(f"blink:{blink(tmp_path)}")
    questions = dataset.questions()  # type: ignore[attr-defined]
    subjects = {question.image_ids[0] for question in questions if not unaskable(question, {})}
    refs = limited_pictures(dataset, limit)
    assert sum(ref.id in subjects for ref in refs) == limit
    # They are the data set's first, as an extraction takes them, up to the last that is asked.
    assert [ref.id for ref in refs] == [ref.id for ref in dataset.images()[: len(refs)]]
    assert refs[-1].id in subjects
    assert not {ref.id for ref in dataset.images()[:limit]} & subjects
    askable = limited_pictures(dataset, 10**6)
    assert {ref.id for ref in askable} >= subjects
