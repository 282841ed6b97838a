"""The notebooks run, on the shipped model and drawn pictures, and show what is kept in them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tools import notebooks
from tests.tools.source import ROOT

Names = dict[str, Any]


def check_values(names: Names) -> None:
    """The map is 1 at its own token, and the token is that of the pixel."""
    token, similarity = names["token"], names["similarity"]
    assert similarity[token] == pytest.approx(1, abs=1e-5)
    assert np.argmax(similarity) == token
    cell_px = np.array(names["run"][names["image"].id].wh_px) / 12
    distance = np.array(names["pixel"]) - (names["x_px"][token], names["y_px"][token])
    assert (np.abs(distance) <= cell_px / 2 + 1e-6).all()


def check_probe(names: Names) -> None:
    """No picture has two roles, and the probe exceeds every draw of what knows nothing."""
    assert {name: int((names["role"] == name).sum()) for name in ("train", "choose", "test")} == {
        "train": 35,
        "choose": 14,
        "test": 21,
    }
    assert np.mean(names["dealt"]) < 0.3 < max(names["dealt"]) + 0.3 < names["scores"].mean()


def check_cka(names: Names) -> None:
    """CKA is symmetric, 1 for rotations, and near 0 for shuffled tokens."""
    cka, first, last = names["cka"], names["first"], names["last"]
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(64, 64)))
    assert cka(first, last) == pytest.approx(cka(last, first))
    assert cka(first, 3 * first @ rotation) == pytest.approx(1)
    assert cka(first, last[names["shuffles"]["all tokens"]]) < 0.05 < cka(first, last)


def check_knockout(names: Names) -> None:
    """The keys of least variance were blocked, and their rows say so."""
    variances = {(row["layer"], row["kv_head"]): row["variance"] for row in names["keys"]}
    assert sorted(variances, key=lambda key: variances[key])[:4] == names["heads"]
    assert names["blocked"]["n_heads"] == 4
    assert 0 <= names["blocked"]["picture_p"] <= names["blocked"]["picture_holm_p"] <= 1


def check_viewer(names: Names) -> None:
    """The state that was set stands, names an image of the run, and maps are 1 at their token."""
    assert names["viewer"].state.endswith(f"image={names['image']}&token={names['token']}")
    assert names["image"] in names["run"]
    assert names["maps"][..., names["token"]] == pytest.approx(1, abs=1e-5)
    assert np.abs(names["maps"]).max() <= 1 + 1e-5


CHECKS: dict[str, Callable[[Names], None]] = {
    "values-and-pixels": check_values,
    "own-probe": check_probe,
    "cka": check_cka,
    "knockout": check_knockout,
    "viewer": check_viewer,
}


def shapes(notebook: notebooks.Notebook) -> list[list[list[str]]]:
    """Return what kinds of outputs each cell has."""
    return [
        [[output["output_type"], *output.get("data", ())] for output in cell["outputs"]]
        for cell in notebooks.code_cells(notebook)
    ]


def test_every_notebook_is_checked_and_listed() -> None:
    stems = [path.stem for path in notebooks.paths()]
    index = (notebooks.FOLDER / "index.md").read_text("utf-8")
    assert set(stems) == set(CHECKS)
    for stem in stems:
        assert f"({stem}.ipynb)" in index
        assert re.search(rf"^{stem}$", index, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what anywidget imports
@pytest.mark.parametrize("name", CHECKS)
def test_a_notebook_runs_and_shows_what_is_kept(name: str, tmp_path: Path) -> None:
    if name == "viewer":
        pytest.importorskip("anywidget")
    saved = notebooks.read(notebooks.FOLDER / f"{name}.ipynb")
    again = notebooks.read(notebooks.FOLDER / f"{name}.ipynb")
    CHECKS[name](notebooks.execute(again, tmp_path))
    assert shapes(again) == shapes(saved)
    assert any(shapes(saved))


@pytest.mark.parametrize("name", CHECKS)
def test_a_notebook_has_one_title(name: str) -> None:
    cells = notebooks.read(notebooks.FOLDER / f"{name}.ipynb")["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    assert re.findall(r"^#+ ", text, re.MULTILINE)[0] == "# "
    assert len(re.findall(r"^# ", text, re.MULTILINE)) == 1
    assert text.startswith("# ")


def test_nothing_kept_names_a_place_of_a_machine() -> None:
    for path in notebooks.paths():
        text = path.read_text("utf-8")
        assert str(ROOT) not in text
        assert not re.search(r"/(home|tmp|root|work|Users)/", text)
        assert path.stat().st_size < 100_000


def test_a_cell_shows_what_it_prints_and_its_last_value() -> None:
    names: Names = {}
    assert notebooks.run_cell("x = 2\nprint('a')\nx + 1", names, "cell") == [
        {"output_type": "stream", "name": "stdout", "text": ["a\n"]},
        {"output_type": "display_data", "data": {"text/plain": ["3"]}, "metadata": {}},
    ]
    assert notebooks.run_cell("x;", names, "cell") == []
    assert notebooks.run_cell("type('Widget', (), {'_repr_mimebundle_': 1})()", {}, "cell") == []
    with pytest.raises(ZeroDivisionError):
        notebooks.run_cell("x / 0", names, "cell")
