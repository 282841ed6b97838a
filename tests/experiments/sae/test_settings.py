"""What a study says of the files that it was given."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvtool.demo.weights import demo_saes_path
from kvtool.errors import UsageError
from kvtool.experiments.sae.article import command
from kvtool.experiments.sae.settings import DescribedBy
from kvtool.reporting.study import KeptResult
from tests.support.sae_results import sae_result


@pytest.mark.parametrize(
    ("path", "flag"),
    [
        (demo_saes_path() / "descriptions.json", []),
        (Path("mine") / "descriptions.json", ["--descriptions", "descriptions.json"]),
    ],
)
def test_shipped_descriptions_are_no_file_that_a_reader_has(path: Path, flag: list[str]) -> None:
    config = {"sae": [{"path": "demo/saes/layer_0", "layer": 0}], **DescribedBy(path).names()}
    line = command(KeptResult("study.kv", sae_result()), config, None)
    assert line == ["sae", "study.kv", "--sae", "demo", *flag]


def test_a_judge_without_descriptions_is_refused() -> None:
    with pytest.raises(UsageError, match="to compare with captions, found none"):
        DescribedBy(judge="smollm2")
