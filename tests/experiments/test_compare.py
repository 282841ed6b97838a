"""Runs compared: planted differences measured by hand, what is left out, and the command line."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kvtool
from kvtool.datasets.spair71k import SPair71k
from kvtool.errors import KvtoolError, UsageError
from kvtool.reporting.emit import emit
from kvtool.reporting.sentences import against_baseline, between_models, sentences_of
from kvtool.result import Result
from kvtool.stats.bootstrap import bootstrap
from kvtool.store import Store
from kvtool.tasks.base import Array, halves
from tests.support.comparisons import TASK, pair_run, pairs_of, row_of, write_runs
from tests.support.damage import assert_computed_again
from tests.support.fields import assert_documented
from tests.support.prefixes import WITHOUT
from tests.support.shell import Shell, in_this_process
from tests.support.tasks.semantic_correspondence import write_spair
from tests.support.units import PLANTED, noise

RUNS = ["half", "full", "small"]
SEED = 4  # of halves whose first one has the category that `half` finds


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_spair(tmp_path_factory.mktemp("spair"), categories=3)


@pytest.fixture(scope="module")
def store(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_runs(tmp_path_factory.mktemp("planted") / "s.kv", root)


@pytest.fixture(scope="module")
def result(store: Store) -> Result:
    return kvtool.compare(store, RUNS, TASK, seed=SEED)


@pytest.fixture(scope="module")
def scores(store: Store) -> Callable[..., Array]:
    """PCK of every pair by a block of a run, asked of the task itself."""
    import torch

    from kvtool.features.layers import Layer
    from kvtool.tasks import TASKS
    from kvtool.tasks.truth import sizes_of

    def of(name: str, layer: int, head: int) -> Array:
        run = store.run(name)
        dataset = SPair71k(Path(str(run.config.dataset_path)), "test")
        task = TASKS.load(TASK)(dataset, sizes_of(run), torch.device("cpu"))
        vectors = Layer(run, "value", layer, [head], torch.device("cpu"))
        (summary, *_) = task.tables(task.measure(vectors))
        return np.array([summary.scores(units)["pck_image"] for units in summary.units[0]])

    return of


@pytest.mark.slow
def test_a_block_that_both_have_is_compared_as_by_hand(
    store: Store, result: Result, root: Path, scores: Callable[..., Array]
) -> None:
    """The difference pair by pair, resampled by image within categories."""
    ours, without = scores("full", *PLANTED), scores("half", *PLANTED)
    row = row_of(result, "full", "block", PLANTED)
    assert row["pck_image"] == pytest.approx(ours.mean())
    assert row["base_score"] == pytest.approx(without.mean())
    assert row["difference"] == pytest.approx((ours - without).mean())
    categories = np.array([pair.category for pair in SPair71k(root, "test").pairs()])
    by_hand = bootstrap(
        np.stack([ours - without, np.ones(len(ours))], axis=-1),
        lambda sums: {"score": sums[..., 0] / sums[..., 1]},
        strata=categories,
        clusters=pairs_of(root),
        seed=SEED,
    )["score"]
    assert row["difference_low"] == pytest.approx(float(by_hand.low))
    assert row["difference_high"] == pytest.approx(float(by_hand.high))
    assert 0 < row["p"] < row["holm_p"] < 0.001
    probed = kvtool.probe(store.run("full"), TASK, seed=SEED)
    (probe_row,) = [
        entry
        for entry in probed.rows
        if (entry["kind"], entry["layer"], entry["kv_head"]) == ("value", *PLANTED)
        and not {"alpha", "category"} & entry.keys()
    ]
    assert row["pck_image_low"] == probe_row["pck_image_low"]


@pytest.mark.slow
def test_best_against_best_is_chosen_on_the_other_half(
    store: Store, result: Result, root: Path, scores: Callable[..., Array]
) -> None:
    row = row_of(result, "full", "best")
    first, second = halves(result.n, SEED, pairs_of(root))
    assert not set(first) & set(second)
    assert (row["layer"], row["kv_head"]) == PLANTED
    assert (row["base_layer"], row["base_kv_head"]) == WITHOUT
    ours, without = scores("full", *PLANTED)[second], scores("half", *WITHOUT)[second]
    assert row["n"] == len(second)
    assert row["pck_image"] == pytest.approx(ours.mean())
    assert row["difference"] == pytest.approx((ours - without).mean())
    optimistic = row_of(kvtool.compare(store, RUNS, TASK, seed=SEED, select="max"), "full", "best")
    assert optimistic["n"] == result.n
    assert optimistic["difference"] == pytest.approx(
        (scores("full", *PLANTED) - scores("half", *WITHOUT)).mean()
    )


@pytest.mark.slow
def test_blocks_that_one_run_lacks_have_no_row(result: Result) -> None:
    blocks = {
        run: {
            (row["kind"], row["layer"], row["kv_head"])
            for row in result.rows
            if (row["run"], row["choice"]) == (run, "block")
        }
        for run in ("full", "small")
    }
    baselines = {("projected", 0, 0), ("vision", 3, 0)}
    for run, layers in (("full", 8), ("small", 4)):
        values = {("value", layer, head) for layer in range(layers) for head in range(2)}
        assert blocks[run] == values | baselines
    assert row_of(result, "small", "best")["layer"] < 4


@pytest.mark.slow
def test_the_order_of_the_runs_turns_the_sign(store: Store, result: Result) -> None:
    turned = kvtool.compare(store, ["full", "half"], TASK, seed=SEED)
    for choice, block in (("best", None), ("block", PLANTED)):
        forth, back = row_of(result, "full", choice, block), row_of(turned, "half", choice, block)
        assert back["difference"] == pytest.approx(-forth["difference"])
        assert back["difference_low"] == pytest.approx(-forth["difference_high"], abs=0.02)
        assert back["p"] == pytest.approx(forth["p"], abs=0.01)


@pytest.mark.slow
def test_a_run_and_its_copy_do_not_differ(root: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        pair_run(tmp_path / "s.kv", root, name, noise(3), kinds=("value",), layers=2)
    result = kvtool.compare(tmp_path / "s.kv", ["one", "two"], TASK, select="max")
    assert {(row["difference"], row["p"], row["holm_p"]) for row in result.rows} == {(0, 1, 1)}
    (sentence, *_) = sentences_of(result)
    assert "cannot be told from" in sentence


@pytest.mark.slow
def test_holm_counts_runs_and_blocks_apart(result: Result) -> None:
    for choice in ("best", "block"):
        rows = [row for row in result.rows if row["choice"] == choice]
        least = min(rows, key=lambda row: float(row["p"]))
        assert least["holm_p"] == pytest.approx(min(1, least["p"] * len(rows)))


@pytest.mark.slow
def test_images_that_a_run_lacks_or_holds_another_picture_of(root: Path, tmp_path: Path) -> None:
    images = [ref.id for ref in SPair71k(root, "test").images()]
    path = tmp_path / "s.kv"
    options: dict[str, Any] = {"kinds": ("value",), "layers": 2}
    pair_run(path, root, "all", noise(1), **options)
    pair_run(path, root, "most", noise(2), n=16, digests={images[0]: "another"}, **options)
    result = kvtool.compare(path, ["all", "most"], TASK)
    assert result.config["images"] == 15
    assert result.n_skipped >= 3
    assert result.skipped[0].startswith("run most lacks 2 images that another run holds (cat2/")
    assert f"1 image whose picture is another one in another run ({images[0]})" in result.skipped
    pair_run(path, root, "other", noise(2), digests=dict.fromkeys(images, "x"), **options)
    with pytest.raises(KvtoolError, match="the same pictures, found none: 18 images whose"):
        kvtool.compare(path, ["all", "other"], TASK)


@pytest.mark.slow
def test_values_that_are_not_finite_have_no_difference(root: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"kinds": ("value",), "layers": 2}
    pair_run(tmp_path / "s.kv", root, "one", noise(1), **options)
    pair_run(tmp_path / "s.kv", root, "two", noise(2), spoiled=("value",), **options)
    result = kvtool.compare(tmp_path / "s.kv", ["one", "two"], TASK)
    spoiled = row_of(result, "two", "block", (0, 0))
    assert (spoiled["difference"], spoiled["p"], spoiled["nonfinite"]) == (None, None, 1)
    assert row_of(result, "two", "block", (1, 0))["p"] is not None
    assert any("not finite" in note for note in result.config["notes"])


@pytest.mark.parametrize(
    ("runs", "options", "error", "message"),
    [
        (["half"], {}, UsageError, "expected two runs or more by name"),
        (["half", "half"], {}, UsageError, "each once; found half, half"),
        (["half", "nobody"], {}, UsageError, "nobody"),
        (["half", "full"], {"select": "best"}, UsageError, "select: expected max or split"),
        (["half", "full"], {"episodes": 3}, UsageError, "'episodes' is of"),
        (["half", "full"], {"kinds": ["key"]}, UsageError, "key is not stored"),
        (["half", "small"], {"layers": [7]}, UsageError, "run small: value has no layer 7"),
    ],
)
def test_bad_requests_are_one_line(
    store: Store, runs: list[str], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        kvtool.compare(store, runs, TASK, **options)
    assert "\n" not in str(caught.value)


def test_a_task_that_the_data_set_does_not_serve(store: Store) -> None:
    with pytest.raises(UsageError, match="cannot serve co-segmentation"):
        kvtool.compare(store, RUNS, "co-segmentation")


@pytest.mark.slow
def test_the_result_is_kept_documented_and_said(
    store: Store,
    result: Result,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert_documented(result.to_json())
    assert kvtool.compare(store, RUNS, TASK, seed=SEED).to_json() == result.to_json()
    sentences = sentences_of(result)
    assert sentences[0].startswith("The best block of full (value, layer 5, head 1) is above that")
    assert "Of 18 blocks that full and half both have, " in sentences[4]
    copy = tmp_path / "copy.kv"
    shutil.copytree(store.path, copy)
    assert_computed_again(
        copy, lambda: kvtool.compare(copy, RUNS, TASK, seed=SEED), monkeypatch, caplog
    )


@pytest.mark.slow
def test_the_page_sets_two_models_apart_by_the_paired_difference(
    store: Store, result: Result
) -> None:
    probes = [kvtool.probe(store.run(name), TASK) for name in ("half", "full")]
    assert "is above that of the next" in str(between_models(probes))
    sentence = between_models(probes, [result])
    assert sentence is not None
    assert sentence.startswith("Of 2 models these two are the best. The best block of full")
    assert "paired over" in sentence
    baseline = {"run": "half", "model": "h", "kind": "value", "layer": 2, "kv_head": 0}
    best = probes[1].best or {}
    sentence = against_baseline(probes[1], best, {**best, **baseline}, [result])
    assert sentence.startswith("The best block of full (value, layer 5, head 1) is above that of")
    vision = {**best, **baseline, "kind": "vision"}
    assert "paired" not in against_baseline(probes[1], best, vision, [result])
    unrelated = kvtool.compare(store, ["half", "small"], TASK)
    assert between_models(probes, [unrelated]) == between_models(probes)


@pytest.mark.parametrize("format", ["table", "csv", "jsonl"])
def test_formats(result: Result, format: str) -> None:
    out = io.StringIO()
    emit(result, format, out)
    assert "full" in out.getvalue()


@pytest.fixture
def compare(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], store: Store
) -> Shell:
    monkeypatch.setenv("KVTOOL_STORE", str(store.path))
    return partial(in_this_process(monkeypatch, capsys), "compare")


@pytest.mark.slow
def test_the_command_line(compare: Shell, result: Result, store: Store, tmp_path: Path) -> None:
    png, page = tmp_path / "a.png", tmp_path / "page.html"
    expected = [json.loads(json.dumps(row)) for row in result.flat_rows()]
    for words in (
        ["--runs", "half,full,small", TASK],
        [store.path, TASK, "--runs", ",".join(RUNS)],
    ):
        code, out, _ = compare(*words, "--seed", SEED, "--format", "jsonl", "--plot", png)
        assert code == 0
        assert [json.loads(line) for line in out.splitlines()] == expected
    assert png.read_bytes()[:4] == b"\x89PNG"
    code, out, _ = compare("half", "full", TASK, "--format", "json")
    assert (code, json.loads(out)["config"]["run"]) == (0, "half")
    assert "full, small against half" in kvtool.report(store.path, page).path.read_text()


@pytest.mark.parametrize(
    "words", [[], ["half", TASK], [TASK, "--runs", "half"], ["a", "b", "c", "d", TASK]]
)
def test_words_that_are_not_enough(compare: Shell, words: list[str]) -> None:
    code, out, err = compare(*words)
    assert (code, out) == (2, "")
    assert "expected STORE RUN_A RUN_B TASK" in err[-1]
