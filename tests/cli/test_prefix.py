"""kvtool prefix as a shell sees it, on the embedded world with a tiny random model: its scores mean
nothing.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import kvtool
from tests.support.scenes import World
from tests.support.shell import Shell

TASK = "referring-expression"
FIELDS = {
    "kind",
    "kv_head",
    "miou_fgbg",
    "miou_fgbg_low",
    "difference",
    "difference_low",
    "difference_high",
    "run",
}


@pytest.fixture
def prefix(shell: Shell) -> Shell:
    """Run `kvtool prefix ...`, as shell."""
    return partial(shell, "prefix")


@pytest.fixture(scope="module")
def refcoco(embedded_world: World) -> Path:
    return embedded_world("refcoco") / "refcoco"


@pytest.fixture(scope="module")
def store(refcoco: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "s.kv"
    kvtool.extract(
        path,
        model=str(tiny_model),
        dataset=f"refcoco:{refcoco}",
        limit=3,
        layers=[0, 2],
        run="base",
    )
    return path


@pytest.mark.slow
def test_rows_and_a_table(prefix: Shell, store: Path) -> None:
    code, out, err = prefix(
        store, TASK, "--prefix", "text:a cat", "--layers", "2", "--cutoff", "otsu"
    )
    assert code == 0
    assert [line for line in err if line.startswith("prefix ")] == [
        "prefix correct: extracting 3 images into run base+correct",
        "prefix random: extracting 3 images into run base+random",
        next(
            line
            for line in err
            if line.startswith("prefix text:a cat: extracting 3 images into run base+text-")
        ),
    ]
    rows: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
    assert [(row["condition"], row["choice"]) for row in rows] == [
        (condition, choice)
        for condition in ("none", "correct", "random", "text:a cat")
        for choice in ("best", "fixed")
    ]  # fmt: skip
    assert {row["layer"] for row in rows} == {2}
    assert rows[0].keys() >= FIELDS
    again = prefix(store, TASK, "--prefix", "text:a cat", "--layers", "2", "--cutoff", "otsu")
    assert again == (0, out, err[3:])
    code, out, err = prefix(store, TASK, "--conditions", "random", "--format", "json")
    result = json.loads(out)
    assert (code, err) == (0, [f"{TASK}: {note}" for note in result["config"]["notes"]])
    assert result["config"]["options"] == {"limit": None}
    assert result["config"]["layers"] == [0, 2]
    code, out, _ = prefix(store, TASK, "--conditions", "random", "--format", "table")
    assert max(map(len, out.splitlines())) <= 80
    assert any(line.split()[:1] == ["random"] for line in out.splitlines())


@pytest.mark.slow
def test_a_file_that_lacks_texts_is_exit_4(prefix: Shell, store: Path, tmp_path: Path) -> None:
    first, second, third = kvtool.open(store).run("base").ids
    texts = tmp_path / "texts.csv"
    texts.write_text(f'image,text\n{first},a cat\n{third},"a red, blue dog"\n')
    code, out, err = prefix(
        store, TASK, "--prefix", f"file:{texts}", "--conditions", "none", "--format", "json"
    )
    assert code == 4
    result = json.loads(out)
    assert [item["condition"] for item in result["items"]] == ["none", f"file:{texts}"]
    assert (result["items"][1]["text"], result["items"][1]["n_texts"]) == ("a cat", 2)
    assert (result["n_skipped"], result["config"]["images"]) == (1, 2)
    assert err[-1] == "kvtool: prefix: 1 images were left out of every condition, 2 compared"
    assert err[-2].startswith(f"left out: image {second}: expected a text for --prefix file")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["co-segmentation"],
            "expected one of the tasks semantic-segmentation, referring-expression",
        ),
        (
            [TASK, "--conditions", "incorrect"],
            "some of none, correct, random, which refcoco offers, found 'incorrect'",
        ),
        ([TASK, "--conditions", "none"], "expected another one than none"),
        ([TASK, "--prefix", "text:"], "expected a text after the colon"),
        ([TASK, "--prefix", "file:nowhere.csv"], "nowhere.csv: expected a CSV file"),
        ([TASK, "--prefix", "a cat"], "or file:CSV, found 'a cat'"),
        ([TASK, "--kinds", "vision"], "expected some of value, found vision"),
        ([TASK, "--layers", "1"], "value has no layer 1; stored: 0, 2"),
        ([TASK, "--run", "other"], "no run 'other'"),
        ([TASK, "--upsample"], "option 'upsample' is of semantic-correspondence alone"),
        (["semantic-correspondence"], "found runs: base"),
        ([], "TASK: expected after STORE"),
    ],
)
@pytest.mark.slow
def test_bad_requests_are_one_line(
    prefix: Shell, store: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.delenv("KVTOOL_STORE", raising=False)
    code, out, err = prefix(store, *arguments)
    assert (code, out, len(err)) == (2, "", 1)
    assert err[0].startswith("kvtool: ")
    assert message in err[0]


def test_a_store_that_is_not_there(prefix: Shell, tmp_path: Path) -> None:
    code, out, err = prefix(tmp_path / "none.kv", TASK)
    assert (code, out, len(err)) == (1, "", 1)
    assert "expected a kvtool store" in err[0]
