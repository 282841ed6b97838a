"""Every public object shows itself in ten lines at most, in text and as a table of a notebook."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from kvtool.display import MOST_FACTS, WIDTH, Displayed, Facts, listing, numbers
from kvtool.engine.outcome import Failure, Report
from kvtool.experiments.show.run import Shown
from kvtool.reporting.collect import Page
from kvtool.result import Result, Row
from kvtool.store import Run, open_store
from kvtool.types import Block
from tests.support.runs import commit, new_run, ragged, sample

MANY = 5000


class Cells(HTMLParser):
    """The tags and texts of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002  the parser's
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def check(displayed: Displayed, *words: str) -> None:
    """The text is short and has the words; the table has the same, every cell escaped."""
    text = repr(displayed)
    lines = text.splitlines()
    assert len(lines) <= 10
    assert max(map(len, lines)) <= WIDTH
    assert "object at 0x" not in text
    for word in words:
        assert word in text
    cells = Cells()
    cells.feed(displayed._repr_html_())
    assert set(cells.tags) == {"table", "caption", "tr", "th", "td"}
    assert cells.tags.count("tr") == len(lines) - 1
    assert cells.texts[0] in text


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = new_run(tmp_path)
    commit(run, [ragged(index) for index in range(9)])
    return run


def test_stores_runs_images_and_values(run: Run) -> None:
    check(open_store(run.store), f"Store {run.store}"[:WIDTH][:-3], "runs: 1: tiny")
    check(run, "Run tiny", "lab/tiny (bfloat16)", "layers: 1, 3", "images: 9 (")
    check(run["image3"], "Image image3", "6, base grid 1 x 6", "20 x 10")
    block = run.read("value", [1, 3], [0, 1])
    check(block, "Values of 9 images", f"(2, 2, {block.offsets[-1]}, 8)", "float32")
    check(block.images[1], "Tokens of image image1", "values[..., 3:7, :]")
    check(next(run.stream("key"))[1], "A layer of 9 images")


def test_a_damaged_run_or_store_is_shown_too(run: Run) -> None:
    part = next(path for path in (run.folder / "parts").iterdir() if path.is_dir())
    (part / "zarr.json").write_text("{")
    check(open_store(run.store).run(), "damaged: run tiny, part 0000000-0000009")
    (run.store / "zarr.json").unlink()
    check(run)


def test_showing_a_run_does_not_decide_which_images_it_reads(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    later = open_store(run.store).run()
    assert "images: 0 (" in repr(later)
    commit(run, [ragged(0)])
    assert "images: 1 (" in repr(later)
    assert later.ids == ["image0"]


def test_an_empty_store_and_an_empty_run(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    check(run, "images: 0 (")
    store = open_store(run.store)
    store.remove_run("tiny")
    check(store, "runs: none")


def test_a_sample_of_many_tokens() -> None:
    check(sample(0, n_prefix=MANY), "image0")


@pytest.mark.parametrize("many", [0, 1, MANY])
def test_results_reports_pages_and_pictures(many: int) -> None:
    rows: list[Row] = [{"kind": "value", "layer": i, "kv_head": 0, "f1": 0.5} for i in range(many)]
    best = rows[0] if rows else None
    result = Result("probe", "a task", "f1", many, rows, best, items=rows, config={"run": "r"})
    check(result, "Result of probe a task", "metric: f1 (fraction)", f"n: {many}")
    assert ("best: value, layer 0, head 0: 0.5" in repr(result)) == (many > 0)
    report = Report("r", many)
    report.failed = {i: Failure(f"<image {i}>", "torn\nfile") for i in range(many)}
    report.left_out = ("line",) * many
    report.busy = ["part"] * many
    report.nonfinite = {("value", i, 0): 2 for i in range(many)}
    report.n_done = report.n_reused = report.n_by_others = many
    check(report, "Extraction of run r")
    check(Page(Path("page.html"), 10**7, many, 3, ("note",) * many), "Page page.html", "10.0 MB")
    images = tuple(f"image{i}" for i in range(many))
    for block in (None, Block("value", 3, 1)):
        check(Shown(Path("a.png"), "pca", "r", "value", block, images, (8, 9)), "pixels: 8 x 9")


def test_facts_are_cut_to_lines_and_escaped() -> None:
    class Thing(Displayed):
        def _title(self) -> str:
            return "<b>\nThing"

        def _facts(self) -> Facts:
            return {"<i>": "a\nb & c", "none": None} | {str(i): "x" * 200 for i in range(20)}

    lines = repr(Thing()).splitlines()
    assert len(lines) == 1 + MOST_FACTS
    assert lines[:2] == ["<b> Thing", "  <i>: a b & c"]
    assert all(len(line) == WIDTH and line.endswith("...") for line in lines[2:])
    check(Thing())
    assert "&lt;i&gt;" in Thing()._repr_html_()


def test_listings() -> None:
    assert listing([]) == "none"
    assert listing(range(5)) == "0, 1, 2, 3, 4"
    assert listing(range(7)) == "0, 1, 2, 3, 4 and 2 more"
    assert numbers(range(28)) == "0 to 27"
    assert numbers((1, 3)) == "1, 3"
    assert numbers((2, 3)) == "2, 3"
    assert numbers(()) == "none"
