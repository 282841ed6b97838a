"""What is said of heads by name: which names there are, and which result they come from."""

from __future__ import annotations

from typing import Any

import pytest

from kvtool.asking.head_sources import HeadSource
from kvtool.asking.kept_heads import KeptHeads
from kvtool.errors import UsageError
from tests.support.attend_results import sinks_result


def test_a_name_that_is_none_is_told_all_that_there_are() -> None:
    with pytest.raises(UsageError) as error:
        HeadSource.parse("nope", None)
    for name in ("agnostic", "lowest:N", "best:TASK[:N]", "localization[:N]", "sinks[:N]", "all"):
        assert name in str(error.value)
    assert "layer:head" in str(error.value)


@pytest.mark.parametrize(("images", "is_few"), [(1, True), (7, True), (8, False), (200, False)])
def test_heads_of_few_pictures_are_warned_of(images: int, is_few: bool) -> None:
    heads = KeptHeads.parse("sinks:2")
    assert heads is not None
    result = sinks_result()
    result.config["images"] = images
    note = heads.note(result)
    assert f"over {images} pictures of run r" in note
    assert ("which are few: expected 8 or more" in note) == is_few


def test_probes_are_not_warned_of() -> None:
    heads = KeptHeads.parse("best:semantic-correspondence")
    assert heads is not None
    result: Any = sinks_result()
    result.config["images"] = 1
    assert "few" not in heads.note(result)
