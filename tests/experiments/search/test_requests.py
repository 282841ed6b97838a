"""Which block kvtool.search reads, and requests that it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import kvtool
from kvtool.errors import UsageError
from kvtool.result import Result
from kvtool.store import Run, indexes, open_store
from tests.experiments.search.patches import make_run


def keep_probe(
    run: Run, task: str, scores: dict[tuple[str, int, int], float], **config: Any
) -> None:
    rows: list[dict[str, Any]] = [
        {"kind": k, "layer": i, "kv_head": h, "pck_image": v, "n": 1}
        for (k, i, h), v in scores.items()
    ]
    best = {
        **max((row for row in rows if row["kind"] == "value"), key=lambda row: row["pck_image"]),
        "select": "max",
    }
    result = Result(
        "probe", task, "pck_image", 1, rows, best, config={"run_hash": run.config.hash, **config}
    )
    open_store(run.store).save_result(
        f"key{len(list(open_store(run.store).results_dir.iterdir()))}", result.to_json()
    )


def block(run: Run, **options: Any) -> tuple[Any, ...]:
    config = kvtool.search(run, "img08", (40, 30), exact=True, **options).config
    return config["kind"], config["layer"], config["kv_head"], config["block_from"].split(" ")[0]


@pytest.mark.slow
def test_the_block_is_the_best_of_the_widest_correspondence_probe(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert block(run) == ("value", 4, 0, "no")
    keep_probe(run, "foreground-segmentation", {("value", 1, 0): 0.5, ("value", 2, 1): 0.7})
    assert block(run) == ("value", 2, 1, "best")
    scores = {
        ("value", 3, 0): 0.5,
        ("value", 5, 1): 0.7,
        ("value", 6, 0): 0.6,
        ("vision", 3, 0): 0.9,
    }
    keep_probe(run, "semantic-correspondence", scores)
    keep_probe(run, "co-segmentation", {("value", 1, 1): 0.9})
    keep_probe(run, "semantic-correspondence", {("value", 0, 0): 0.9}, run_hash="of another run")
    # One of a single block says nothing of the others, whenever it was kept.
    keep_probe(run, "semantic-correspondence", {("value", 0, 1): 0.9})
    (open_store(run.store).results_dir / "bad.json").write_text("{}")
    assert block(run) == ("value", 5, 1, "best")
    assert block(run, kv_head=0) == ("value", 6, 0, "best")
    assert block(run, layer=3) == ("value", 3, 0, "best")
    assert block(run, layer=7) == ("value", 7, 0, "no")
    assert block(run, layer=7, kv_head=1) == ("value", 7, 1, "as")
    assert block(run, kind="vision") == ("vision", 3, 0, "best")
    assert block(run, kind="projected") == ("projected", 0, 0, "no")


def test_bad_requests(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    for options, message in (
        ({"k": 0}, "k: expected a whole number from 1 to 1000000, found 0"),
        ({"metric": "dot"}, "metric is cosine or l2"),
        ({"layer": 99}, "no layer 99 of value, only 0, 1"),
        ({"kv_head": 2}, "no kv_head 2 of value: expected 0 to 1"),
        ({"kv_head": -1}, "kv_head: expected a whole number from 0 "),
        ({"kind": "key"}, "no key, only value, projected, vision"),
        ({"device": "cuda:99"}, "expected cuda:99 to exist"),
    ):
        with pytest.raises(UsageError, match=message):
            kvtool.search(run, "img08", (40, 30), **options)
    with pytest.raises(UsageError, match=r"no image 'img8' among the 12 .* nearest: 'img08'"):
        kvtool.search(run, "img8", (40, 30))
    for at_px in ((80, 30), (-1, 30), (40, 60), (float("nan"), 1)):
        with pytest.raises(
            UsageError, match=r"outside image img08 \(80 x 60 px\): expected x from 0 to below 80"
        ):
            kvtool.search(run, "img08", at_px)
    with pytest.raises(UsageError, match=r"the model saw a part\): expected x from 10 to below 70"):
        kvtool.search(run, "img03", (5, 5))
    assert not indexes.folder_of(run).exists()
