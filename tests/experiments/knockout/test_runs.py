"""The runs that serve a knockout, images that are not there, and requests that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import kvtool
from kvtool.errors import KvtoolError, ModelError, UsageError
from tests.experiments.knockout.asked import OPTIONS, by_condition
from tests.support.planted import NOISY, planted_model, planted_pope


@pytest.mark.slow
def test_mme_images_are_extracted_with_the_settings_of_the_run(
    tmp_path: Path, model: Path, pope: Path, mme: Path
) -> None:
    path = tmp_path / "s.kv"
    kvtool.extract(
        path, model=str(model), dataset=f"pope:{pope}", prefix="text:red", dtype="float32"
    )
    (base,) = kvtool.open(path).runs()
    for _ in range(
        2
    ):  # the second time the store holds two runs, and the first is still the one that is meant
        result = kvtool.knockout(path, f"mme:{mme}", sorted(NOISY), **OPTIONS)
        assert kvtool.open(path).runs() == [base, f"{base}+mme"]
        config = kvtool.open(path).run(f"{base}+mme").config
        assert (config.prefix, config.model.dtype, config.kinds) == (
            "text:red",
            "float32",
            ("key", "value"),
        )
        rows = by_condition(result)
        # One of two questions is right of each image, so that none is wholly right.
        assert (
            rows["none"] | {"score": 50.0, "acc": 50.0, "acc_plus": 0.0, "n": 16, "n_questions": 32}
            == rows["none"]
        )
        assert (
            rows["chosen"] | {"score": 200.0, "acc_plus": 100.0, "total": 400.0} == rows["chosen"]
        )
        assert rows["none"]["yes_ratio"] == 50.0
        assert [
            row["subset"] for row in result.rows if row["condition"] == "late" and "subset" in row
        ] == [
            "existence",
            "position",
        ]
        assert result.unit == "percent"


@pytest.mark.slow
def test_cocos_own_run_serves_pope(tmp_path: Path, model: Path, pope: Path) -> None:
    kvtool.extract(tmp_path / "s.kv", model=str(model), dataset=f"coco:{pope}@val2014")
    result = kvtool.knockout(tmp_path / "s.kv", f"pope:{pope}", sorted(NOISY), **OPTIONS)
    assert kvtool.open(tmp_path / "s.kv").runs() == [result.config["run"]]
    assert by_condition(result)["chosen"]["accuracy"] == 1.0
    copy = planted_pope(tmp_path / "copy")  # the same pictures in another folder
    result = kvtool.knockout(tmp_path / "s.kv", f"pope:{copy}", sorted(NOISY), **OPTIONS)
    assert not result.config["run"].endswith("+pope")
    second = planted_pope(tmp_path / "other")  # the same names are not the same pictures
    for path in (second / "val2014").iterdir():
        with Image.open(path) as picture:
            picture.resize((44, 44)).save(path)
    result = kvtool.knockout(tmp_path / "s.kv", f"pope:{second}", sorted(NOISY), **OPTIONS)
    assert result.config["run"].endswith("+pope")


@pytest.mark.slow
def test_images_that_are_not_there_are_counted(tmp_path: Path, model: Path) -> None:
    pope = planted_pope(tmp_path / "pope", n_images=4)
    (pope / "val2014" / "001.png").unlink()
    (pope / "val2014" / "002.png").write_bytes(b"no picture")
    result = kvtool.knockout(
        tmp_path / "s.kv", f"pope:{pope}", sorted(NOISY), model=str(model), **OPTIONS
    )
    assert (result.n, result.n_skipped, len(result.skipped)) == (12, 12, 10)
    assert result.skipped[0].startswith("question random/7: ")
    assert "no such file" in result.skipped[0]
    for path in (pope / "val2014").iterdir():
        path.unlink()
    with pytest.raises(KvtoolError, match="found none"):
        kvtool.knockout(
            tmp_path / "t.kv", f"pope:{pope}", sorted(NOISY), model=str(model), **OPTIONS
        )


@pytest.mark.slow
def test_what_the_run_holds_needs_no_picture(tmp_path: Path, model: Path) -> None:
    pope = planted_pope(tmp_path / "pope", n_images=2)
    kvtool.extract(tmp_path / "s.kv", model=str(model), dataset=f"pope:{pope}")
    (pope / "val2014" / "001.png").unlink()
    result = kvtool.knockout(tmp_path / "s.kv", f"pope:{pope}", sorted(NOISY), **OPTIONS)
    assert (result.n, result.n_skipped) == (12, 0)


@pytest.mark.slow
def test_another_model_under_the_runs_name_is_refused(tmp_path: Path) -> None:
    pope = planted_pope(tmp_path / "pope", n_images=2)
    model = planted_model(tmp_path / "model")
    kvtool.extract(tmp_path / "s.kv", model=str(model), dataset=f"pope:{pope}")
    (model / "generation_config.json").write_text("{}")
    with pytest.raises(
        ModelError, match=r"expected revision files-\w+, .* found files-\w+; give the folder"
    ):
        kvtool.knockout(tmp_path / "s.kv", f"pope:{pope}", sorted(NOISY), **OPTIONS)


@pytest.mark.slow
def test_several_runs_need_a_name(tmp_path: Path, model: Path, pope: Path) -> None:
    path = tmp_path / "s.kv"
    runs = [
        kvtool.extract(path, model=str(model), dataset=f"pope:{pope}", prefix=p).run
        for p in ("none", "random")
    ]
    with pytest.raises(UsageError, match=r"expected one run or a name \(--run, "):
        kvtool.knockout(path, f"pope:{pope}", sorted(NOISY), **OPTIONS)
    result = kvtool.knockout(path, f"pope:{pope}", sorted(NOISY), run=runs[1], **OPTIONS)
    assert (result.config["run"], result.config["prefix"]) == (runs[1], "random")
    repeat = kvtool.knockout(
        kvtool.open(path).run(runs[1]), f"pope:{pope}", sorted(NOISY), **OPTIONS
    )
    assert repeat.rows == result.rows


@pytest.mark.slow
@pytest.mark.parametrize(
    ("benchmark", "options", "match"),
    [
        (
            "coco:{pope}",
            {},
            "benchmark: expected one of pope:PATH, mme:PATH, blink:PATH, cvbench:PATH, own:PATH, "
            "scenes, scenes@mme; "
            "found 'coco:",
        ),
        ("scenes@coco", {}, "benchmark: expected one of"),
        ("pope:{pope}", {"heads": [(9, 0)]}, "heads: row 1: expected layer from 0 to 5, found 9"),
        ("pope:{pope}", {"heads": []}, "heads given: expected at least one head, found none"),
        ("pope:{pope}", {"layers": "early"}, "layers: expected some that hold a chosen head"),
        ("pope:{pope}", {"max_new_tokens": 0}, "max_new_tokens: expected a whole number from 1 "),
        ("pope:{pope}", {"limit": 0}, "limit: expected a whole number from 1 "),
        ("pope:{pope}", {"device": "tpu"}, "device"),
    ],
)
def test_bad_requests(
    store: Path, pope: Path, benchmark: str, options: dict[str, Any], match: str
) -> None:
    heads = options.pop("heads", sorted(NOISY))
    with pytest.raises(UsageError, match=match):
        kvtool.knockout(store, benchmark.format(pope=pope), heads, **{"fresh": True, **options})


def test_no_store_and_no_model(tmp_path: Path, pope: Path) -> None:
    with pytest.raises(KvtoolError, match="expected a kvtool store"):
        kvtool.knockout(tmp_path / "none.kv", f"pope:{pope}", sorted(NOISY))
