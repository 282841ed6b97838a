"""What attend cannot do is said in one line, and costs itself alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kvtool
from kvtool.errors import KvtoolError, UsageError
from kvtool.store import Run
from tests.support import tiny
from tests.support.concepts import cats_and_dogs

QUESTION = "is the cat there"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("requests")
    cats_and_dogs(root / "coco", 6)
    tiny.llava_onevision(root / "model")
    return root


def extracted(root: Path, store: Path, **options: Any) -> Run:
    settings = {"model": str(root / "model"), "dataset": f"coco:{root / 'coco'}"} | options
    report = kvtool.extract(store, dtype="float32", **settings)
    return kvtool.open(store).run(report.run)


@pytest.fixture(scope="module")
def run(root: Path) -> Run:
    return extracted(root, root / "study.kv")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "expected one of --question, --benchmark, --expressions, found none"),
        ({"question": QUESTION, "expressions": True}, "found --question and --expressions"),
        ({"question": "  "}, "--question: expected a text, found an empty one"),
        ({"question": 3}, "--question: expected a text, found 3"),
        ({"question": QUESTION, "image": "nothing"}, "no image 'nothing' among the 6"),
        ({"question": QUESTION, "layers": [3]}, "layers: expected some of 0 to 2, found 3"),
        ({"question": QUESTION, "from_": ""}, "--from: expected last, question, answer or a word"),
        ({"question": QUESTION, "localization": 0}, "localization: expected a whole number"),
        ({"question": QUESTION, "each_token": True}, "name their folder with --out"),
        ({"sinks": True, "save": "maps"}, "--save and --out are of maps"),
        ({"expressions": True}, "such as refcoco, found coco"),
        ({"benchmark": "coco:nowhere"}, "benchmark: expected one of"),
    ],
)
def test_options_that_cannot_be(run: Run, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        kvtool.attend(run, **options)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.slow
def test_a_run_without_keys(tmp_path: Path, root: Path) -> None:
    for options in ({"kinds": ["value"]}, {"kinds": ["key", "value"], "layers": [0, 1]}):
        run = extracted(root, tmp_path / f"{len(options)}.kv", limit=1, **options)
        with pytest.raises(UsageError, match=r"expected keys and values of all 3 layers, found"):
            kvtool.attend(run, question=QUESTION)


def test_an_encoder_alone(tmp_path: Path, root: Path) -> None:
    run = extracted(root, tmp_path / "s.kv", model=str(tiny.clip(tmp_path / "clip")), limit=1)
    with pytest.raises(UsageError, match="an encoder alone, whose pictures no text looks at"):
        kvtool.attend(run, question=QUESTION)


@pytest.mark.slow
def test_keys_before_the_rotary_embedding_give_the_same(tmp_path: Path, run: Run) -> None:
    root = Path(run.store).parent
    before = extracted(root, tmp_path / "s.kv", keys="pre-rope")
    expected, result = (kvtool.attend(entry, question=QUESTION) for entry in (run, before))
    for ours, theirs in zip(result.rows, expected.rows, strict=True):
        for name in ("mass", "entropy", "sink_share", "auroc"):
            assert ours[name] == pytest.approx(theirs[name], abs=1e-4)


@pytest.mark.slow
def test_each_thing_of_a_picture_is_asked_about(run: Run) -> None:
    result = kvtool.attend(run, question="is the {concept} there")
    # Every third picture shows both.
    assert result.n == 8
    assert {row["n_masks"] for row in result.rows} == {8}


@pytest.mark.slow
def test_things_that_nothing_has_masks_of(tmp_path: Path, root: Path) -> None:
    tiny.noise(64, 64).save(tmp_path / "a.png")
    run = extracted(root, tmp_path / "s.kv", dataset=f"folder:{tmp_path}")
    with pytest.raises(UsageError, match=r"no placeholder but \{concept\}, found \{concpt\}"):
        kvtool.attend(run, question="is the {concpt} there")
    with pytest.raises(UsageError, match=r"masks of things to put in place of \{concept\}"):
        kvtool.attend(run, question="is the {concept} there")
    plain = kvtool.attend(run, question=QUESTION)
    assert plain.metric == "mass"
    assert "auroc" not in plain.rows[0]
    # One picture has no interval and no other half.
    assert plain.rows[0]["mass_low"] is None
    assert plain.config["localization"]["n_chosen"] == 1
    assert plain.config["chosen_head"] is None


@pytest.mark.slow
def test_masses_add_up_to_one(run: Run) -> None:
    result = kvtool.attend(run, question=QUESTION, from_="question")
    for row in result.rows:
        assert row["mass"] + row["mass_text"] == pytest.approx(1)
        assert 0 < row["mass"] < 1
        assert 0 <= row["entropy"] <= 1


def test_a_word_that_is_not_in_the_text(run: Run) -> None:
    with pytest.raises(KvtoolError, match=r"expected the word 'dog' in it, found 'is the cat"):
        kvtool.attend(run, question=QUESTION, from_="dog")


@pytest.mark.slow
def test_texts_without_the_word_are_left_out_named_and_counted(
    run: Run, shell: Callable[..., Any]
) -> None:
    arguments = ("attend", run.store, "--question", "is the {concept} there", "--from", "dog")
    code, output, lines = shell(*arguments, "--format", "json")
    record = json.loads(output)
    assert code == 4
    assert (record["n"], record["n_skipped"]) == (4, 4)
    assert any("expected the word 'dog' in it" in line for line in lines)
    assert "4 left out, 4 texts measured" in lines[-1]


def test_tokens_of_answers_look(run: Run, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "question": QUESTION,
        "image": run.ids[0],
        "from_": "answer",
        "max_new_tokens": 3,
    }
    result = kvtool.attend(run, save=tmp_path, **options)
    saved = np.load(tmp_path / f"{run.ids[0]}.npz")
    assert str(saved["answer"])
    assert result.rows[0]["mass"] == pytest.approx(saved["attention"][0, 0].sum(), abs=1e-6)


@pytest.mark.slow
def test_an_image_that_is_not_finite_is_left_out(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Run.read_image

    def spoiled(self: Run, image: str, *args: Any, **options: Any) -> Any:
        arrays = plain(self, image, *args, **options)
        if image != run.ids[2]:
            return arrays
        return arrays | {"key": np.full_like(arrays["key"], np.nan)}

    monkeypatch.setattr(Run, "read_image", spoiled)
    result = kvtool.attend(run, question=QUESTION, seed=5)
    assert (result.n, result.n_skipped) == (5, 1)
    assert f"image {run.ids[2]}: expected a finite cache" in result.skipped[0]


@pytest.mark.slow
def test_the_command(run: Run, tmp_path: Path, shell: Callable[..., Any]) -> None:
    for flags, words in (
        (("--question", QUESTION), ("localization heads", "best head by auroc", "entropy")),
        (("--sinks",), ("sinks of 6 of 6 keys", "chance", "over keys: variance with")),
    ):
        plot = tmp_path / "maps.svg"
        code, table, lines = shell("attend", run.store, *flags, "--format", "table", "--plot", plot)
        assert code == 0, lines
        assert max(map(len, table.splitlines())) <= 80
        assert "…" not in table
        for word in words:
            assert word in table
        assert plot.read_text().startswith("<?xml")


@pytest.mark.slow
def test_the_page_has_its_articles(run: Run, tmp_path: Path, shell: Callable[..., Any]) -> None:
    kvtool.attend(run, question=QUESTION)
    kvtool.attend(run, sinks=True)
    page = tmp_path / "page.html"
    code, _, lines = shell("report", run.store, "-o", page)
    assert code == 0, lines
    text = page.read_text()
    for words in ("Where texts look", "The localization heads", "The strongest 1 % of image"):
        assert words in text
    assert f"kvtool attend {Path(run.store).name}" in text
    assert "--sinks" in text
    # Chance is AUROC's, and no level for how much heads look at the picture.
    assert "query: AUROC, chance 0.500" in text
    assert "query: share of attention on the picture, %" in text
    assert "query: share of attention on the picture, %, chance" not in text


def test_a_run_of_a_store_is_named(run: Run) -> None:
    expected = kvtool.attend(run, question=QUESTION, limit=1)
    assert kvtool.attend(run.store, run=run.name, question=QUESTION, limit=1) == expected
    with pytest.raises(UsageError, match="nope"):
        kvtool.attend(run.store, run="nope", question=QUESTION)
