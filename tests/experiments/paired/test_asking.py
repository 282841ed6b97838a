"""Paired tasks that ask a tiny model: what is asked, kept and drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import kvtool
import kvtool.models
from kvtool.asking.paired.points import QUESTIONS
from kvtool.datasets import open_dataset, parse_spec
from kvtool.models.several import SeveralImages
from kvtool.result import Result
from kvtool.store import Store
from kvtool.store.verify import verify
from tests.support.damage import assert_computed_again
from tests.support.fields import assert_documented, documented


class Counted:
    """How many questions the model was asked, and stops before a batch."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.texts: list[str] = []
        self.stop_at: int | None = None
        original = SeveralImages.ask_several

        def ask(model: Any, images: Any, texts: Any, max_new_tokens: int) -> list[str | None]:
            if self.stop_at is not None and len(self.texts) >= self.stop_at:
                raise KeyboardInterrupt
            self.texts += texts
            return original(model, images, texts, max_new_tokens)

        monkeypatch.setattr(SeveralImages, "ask_several", ask)


@pytest.mark.slow
def test_an_interrupted_command_asks_only_the_rest(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(monkeypatch)
    monkeypatch.setattr("kvtool.asking.paired.replies.AT_ONCE", 5)
    counted.stop_at = 5
    with pytest.raises(KeyboardInterrupt):
        kvtool.paired(store, "art-style", max_new_tokens=2)
    assert len(counted.texts) == 5
    counted.stop_at = None
    first = kvtool.paired(store, "art-style", max_new_tokens=2)
    assert len(counted.texts) == 12
    fewer = kvtool.paired(store, "art-style", max_new_tokens=2, layers=[0], seed=3)
    assert [item["answer"] for item in fewer.items] == [item["answer"] for item in first.items]
    assert kvtool.paired(store, "art-style", max_new_tokens=2) == Result.from_json(first.to_json())
    assert len(counted.texts) == 12
    kvtool.paired(store, "art-style", max_new_tokens=3)
    assert len(counted.texts) == 24
    again = kvtool.paired(store, "art-style", max_new_tokens=2, fresh=True)
    assert len(counted.texts) == 36
    assert again.rows == Result.from_json(first.to_json()).rows


@pytest.mark.slow
def test_pictures_are_drawn_asked_about_and_kept(
    store: Store, tmp_path: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(monkeypatch)
    result = kvtool.paired(store, "semantic-correspondence", n=6, max_new_tokens=2)
    assert (result.n, len(counted.texts), result.metric) == (6, 6, "value")
    folder = store.pictures_dir(result.config["pictures"])
    lines = [json.loads(line) for line in (folder / QUESTIONS).read_text().splitlines()]
    assert [line["id"] for line in lines] == [item["id"] for item in result.items]
    assert [line["answer"] for line in lines] == [item["label"] for item in result.items]
    assert [line["images"] for line in lines] == [item["images"] for item in result.items]
    assert all((folder / file).is_file() for item in result.items for file in item["files"])
    assert verify(store) == []
    assert_documented(result.to_json())
    assert set(result.items[0]) <= documented()
    assert result.best is not None
    assert {"value", "value_pck", "value_pck_low"} <= result.best.keys()
    custom = kvtool.paired(
        store, "semantic-correspondence", n=6, max_new_tokens=2, pictures=tmp_path / "own"
    )
    assert {path.name for path in (tmp_path / "own").iterdir()} == {
        path.name for path in folder.iterdir()
    } - {"manifest.json"}
    assert len(counted.texts) == 6
    assert custom.rows == Result.from_json(result.to_json()).rows
    by_pck = kvtool.paired(store, "semantic-correspondence", n=6, max_new_tokens=2, reading="pck")
    assert len(counted.texts) == 6
    assert by_pck.metric == "value_pck"
    for row in by_pck.rows:
        assert row["n_both"] + row["n_value_only"] == round(6 * row["value_pck"])
    dataset: Any = open_dataset(parse_spec(f"spair71k:{scenes}/spair71k"))
    pairs, ids = dataset.pairs(), set(store.run(result.config["run"]).ids)
    stored_pairs = [pair for pair in pairs if {pair.src_id, pair.trg_id} <= ids]
    assert 0 < len(stored_pairs) < len(pairs)
    assert result.skipped == [
        f"{len(pairs) - len(stored_pairs)} of {len(pairs)} pairs have an image "
        "that the run does not hold"
    ]


@pytest.mark.slow
def test_stored_images_answer_like_their_pixels(
    store: Store, tmp_path: Path, tiny_model: Path, scenes: Path
) -> None:
    """A run without projected features runs the tower again."""
    spec = f"blink:{scenes}/blink/Art_Style@val"
    kvtool.extract(tmp_path / "s.kv", model=str(tiny_model), dataset=spec, kinds=("value",))
    ours = kvtool.paired(store, "art-style", max_new_tokens=2)
    second = kvtool.paired(tmp_path / "s.kv", "art-style", max_new_tokens=2)
    assert [item["answer"] for item in second.items] == [item["answer"] for item in ours.items]
    assert len({item["answer"] for item in ours.items}) > 1
    assert second.baselines == []


@pytest.mark.slow
def test_damaged_answers_and_results_are_asked_again(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def command() -> Result:
        return kvtool.paired(store, "semantic-correspondence", n=6, max_new_tokens=2)

    assert_computed_again(store, command, monkeypatch, caplog)
