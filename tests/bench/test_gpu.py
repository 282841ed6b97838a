"""`make bench-gpu --dry`: every section of the GPU's benchmark, on the CPU at tiny sizes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.bench.gpu import sections
from tests.bench.gpu.__main__ import dry_bench, main, report, run
from tests.bench.gpu.extraction import covered
from tests.bench.gpu.kernels import kernels
from tests.bench.gpu.machine import Bench
from tests.bench.gpu.sections import SECTIONS, Section
from tests.bench.rows import Row, met, row

ROWS = {
    "prefill-7b": 2,
    "memory-7b": 2,
    "disk-7b": 2,
    "idle-7b": 1,
    "probes": 4 * 6,
    "faiss": 2 * 2,
    "knockout": 2,
    "attend": 2,
    "prefill-0.5b": 2,
    "memory-0.5b": 2,
    "disk-0.5b": 2,
}


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("gpu") / "build" / "bench-gpu.json"
    main(["--dry", "--out", str(out)])
    document = json.loads(out.read_text())
    assert document["machine"]["dry"]
    return {record["name"]: record for record in document["sections"]}


@pytest.mark.slow
def test_each_section_gives_its_rows(records: dict[str, Any]) -> None:
    assert {name: record["error"] for name, record in records.items()} == dict.fromkeys(SECTIONS)
    assert {name: len(record["rows"]) for name, record in records.items()} == ROWS


@pytest.mark.slow
def test_what_is_computed_is_equal_however_it_is(records: dict[str, Any]) -> None:
    equal = [
        row
        for record in records.values()
        for row in record["rows"]
        if "equal" in row["name"] or "error" in row["name"]
    ]
    assert len(equal) == 2 * 6 + 2 + 1 + 1 + 2
    assert [row["name"] for row in equal if not met(row)] == []


@pytest.mark.slow
def test_rates_are_of_what_was_done(records: dict[str, Any]) -> None:
    rates = {row["name"]: row for record in records.values() for row in record["rows"]}
    prefill = rates["7b: prefill / what the peak allows"]
    # Both lines are of one run of one model.
    assert rates["7b: prefill / bf16 product"]["ratio"] == pytest.approx(prefill["ratio"])
    assert rates["7b: extract 3 to memory / prefill alone"]["peer"] == prefill["ours"]
    assert all(row["ours"] > 0 for name, row in rates.items() if "error" not in name)


def test_a_section_that_fails_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(_: Bench) -> list[Row]:
        raise ValueError("expected a kernel\nand more")

    def sleeps(_: Bench) -> list[Row]:
        time.sleep(10)
        return []

    def ends(_: Bench) -> list[Row]:
        return [row("done", "s", 1, 2, 1)]

    rows = {"fails": Section(9, fails), "sleeps": Section(0.05, sleeps), "ends": Section(9, ends)}
    monkeypatch.setattr(sections, "SECTIONS", rows)
    records = run(list(rows), dry_bench(str(tmp_path), str(tmp_path)), 9, tmp_path / "out.json")
    errors = ["ValueError: expected a kernel", "TimeoutError: more than 0 s", None]
    assert [record["error"] for record in records] == errors
    assert json.loads((tmp_path / "out.json").read_text())["sections"] == records
    report(records)
    printed = capsys.readouterr().out
    assert "MISSED" in printed
    assert "fails: ERROR after 0 s: ValueError" in printed


def test_no_section_begins_after_the_end(tmp_path: Path) -> None:
    (record,) = run(["faiss"], dry_bench(str(tmp_path), str(tmp_path)), 0, tmp_path / "out.json")
    assert (record["rows"], record["error"]) == ([], "TimeoutError: no time left")


def test_sections_fit_eight_minutes() -> None:
    assert sum(section.limit_s for section in SECTIONS.values()) <= 480


def test_spans_that_overlap_count_once() -> None:
    assert covered([(3, 4), (0, 2), (1, 2.5), (1.2, 1.3)]) == 3.5
    assert covered([]) == 0


def test_other_answers_are_seen() -> None:
    kernel = kernels(is_dry=True)[0]
    answers = kernel.compute(*kernel.inputs)
    changed = answers.clone()
    changed[0, 0] += 1
    assert kernel.equal(answers, answers) == 1
    assert kernel.equal(answers, changed) == pytest.approx(1 - 1 / answers.numel())


@pytest.mark.parametrize("arguments", [["nonsense", "--dry"], []])
def test_a_section_that_is_none_and_a_machine_without_a_gpu_are_refused(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit):
        main(arguments)
    assert "expected a CUDA device" in (error := capsys.readouterr().err) or "nonsense" in error
