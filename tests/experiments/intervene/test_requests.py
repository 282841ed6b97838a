"""What can be asked of interventions, on every layout of questions; what cannot is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kvtool
from kvtool.asking.means import compute_means
from kvtool.engine.run_model import load_run_model
from tests.support.scenes import World
from tests.support.shell import Shell

METHODS = ("scale:0.5", "contrast:1")
OPTIONS: dict[str, Any] = {"max_new_tokens": 1}


@pytest.fixture(scope="module")
def scenes(embedded_world: World) -> Path:
    return embedded_world("mme", "blink", "cvbench")


@pytest.fixture(scope="module")
def tiny_store(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, scenes: Path) -> Path:
    """A store over two of MME's pictures, keys before the rotary embedding; a model of 3 layers."""
    path = tmp_path_factory.mktemp("store") / "s.kv"
    options: dict[str, Any] = {"kinds": ("key", "value"), "limit": 2, "keys": "pre-rope"}
    kvtool.extract(path, model=str(tiny_model), dataset=f"mme:{scenes}/mme", **options)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "metric", "label"),
    [
        ("mme", "score", "subset"),
        ("blink", "accuracy", "group"),
        ("cvbench", "accuracy", "group"),
    ],
)
def test_benchmarks(tiny_store: Path, scenes: Path, layout: str, metric: str, label: str) -> None:
    # Of BLINK's sub-tasks one whose questions are about one picture.
    split = "/Relative_Depth@val" if layout == "blink" else ""
    spec = f"{layout}:{scenes / layout}{split}"
    result = kvtool.intervene(tiny_store, spec, "0:1", METHODS, limit=2, **OPTIONS)
    totals = [row for row in result.rows if label not in row]
    assert [row["condition"] for row in totals] == ["none", *METHODS]
    assert (result.task, result.metric) == (layout, metric)
    for row in totals[1:]:
        assert {metric, "n_lost", "n_gained", "mcnemar_holm_p", "chance"} <= row.keys()
        assert row["n_heads"] == 1


def own(folder: Path, *questions: dict[str, Any]) -> str:
    """A folder with a picture and questions about it."""
    from tests.support.planted import planted_picture

    (folder / "images").mkdir(parents=True)
    planted_picture(1).save(folder / "images" / "p.png")
    lines = [
        json.dumps({"id": str(number), "images": ["p"], **question})
        for number, question in enumerate(questions)
    ]
    (folder / "questions.jsonl").write_text("\n".join(lines))
    return f"own:{folder}"


@pytest.mark.slow
def test_own_questions_with_and_without_options(tiny_store: Path, tmp_path: Path) -> None:
    """Margins are of those with options; an empty question is left out and named."""
    spec = own(
        tmp_path / "own",
        {"question": "is there a cat", "answer": "yes"},
        {"question": "what colour is the cat", "answer": "red"},
        {"question": "", "answer": "yes"},
    )
    result = kvtool.intervene(tiny_store, spec, "all", "mean-key", **OPTIONS)
    none = result.rows[0]
    assert (result.n, none["n_margins"]) == (2, 1)
    assert result.n_skipped == 1
    assert "line 3: expected" in result.skipped[0]


@pytest.mark.slow
def test_means_are_those_of_keys_that_text_looks_at(
    tiny_store: Path, tiny_model: Path, scenes: Path, tmp_path: Path
) -> None:
    """Of keys stored before the rotary embedding as of those stored after it."""
    options: dict[str, Any] = {"kinds": ("key", "value"), "limit": 2}
    dataset = f"mme:{scenes}/mme"
    kvtool.extract(tmp_path / "s.kv", model=str(tiny_model), dataset=dataset, **options)
    runs = [kvtool.open(path).run() for path in (tiny_store, tmp_path / "s.kv")]
    assert [run.config.keys for run in runs] == ["pre-rope", "post-rope"]
    model: Any = load_run_model(runs[0], None, "cpu", dtype="float32")
    turned, stored = (compute_means(run, model) for run in runs)
    images = [runs[1].read_image(image) for image in runs[1].ids]
    for name, ours, theirs in (
        ("key", turned.keys, stored.keys),
        ("value", turned.values, stored.values),
    ):
        # (layer, kv_head, token, dim), all tokens of all pictures.
        tokens = np.concatenate([image[name] for image in images], axis=2)
        expected = tokens.astype(np.float64).mean(axis=2)
        for layer in range(3):
            np.testing.assert_allclose(theirs[str(layer)], expected[layer], atol=1e-5)
            np.testing.assert_allclose(ours[str(layer)], expected[layer], atol=0.02)


@pytest.mark.slow
def test_a_run_without_keys_is_not_asked(model: Path, pope: str, tmp_path: Path) -> None:
    """Its pictures are extracted again, with keys, into a run of their own."""
    path = tmp_path / "s.kv"
    kvtool.extract(path, model=str(model), dataset=pope, kinds=("value",), limit=1, run="values")
    result = kvtool.intervene(path, pope, "4:1,5:2", "block", limit=1, **OPTIONS)
    assert (result.config["heads_run"], result.config["run"]) == ("values", "values+pope")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--method", "skale:2"], "--method: expected one of block, scale:NUMBER,"),
        (["--method", "scale:-1"], "--method scale: expected a strength from 0 to 1e+06, as"),
        (["--method", "redistribute"], "--method redistribute: expected a strength from 0 to 1,"),
        (["--method", "block:2"], "--method block: expected no strength, found '2'"),
        (["--method", "block", "--heads", "9:0"], "expected layer from 0 to 2, found 9"),
        (["--method", "block", "--heads", "sinks"], "run first: kvtool attend"),
        (["--method", "block", "--heads", "best:depth"], "unknown name 'depth'"),
        (["--method", "block", "--layers", "2"], "some that hold a chosen head"),
        (["--method", "block", "--controls", "all"], "found 'all'"),
        (["--method", "block", "--threshold", "2"], "expected --heads agnostic beside it"),
        (["--method", "block", "--benchmark", "mme:nowhere"], "nowhere"),
        (["--method", "block", "--select", "max"], "'max' is not one of 'split'"),
        ([], "Missing option '--method'"),
    ],
)
def test_bad_requests_are_one_line(
    shell: Shell, tiny_store: Path, scenes: Path, arguments: list[str], expected: str
) -> None:
    defaults = {"--benchmark": f"mme:{scenes}/mme", "--heads": "0:1"}
    options = [part for pair in defaults.items() if pair[0] not in arguments for part in pair]
    code, out, err = shell("intervene", tiny_store, "--limit", 1, *options, *arguments)
    assert code in (1, 2)
    assert out == ""
    assert expected in err[-1]
    assert err[-1].startswith("kvtool: ")
