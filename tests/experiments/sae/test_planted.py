"""A study of a planted world: closed forms of its measures, and the layer where images align."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kvtool.autoencoders.descriptions import write_descriptions
from kvtool.experiments.sae import describing
from kvtool.experiments.sae.conditions import CONDITIONS
from kvtool.experiments.sae.curves import curves_of
from kvtool.experiments.sae.rows import FIELDS, Scores
from kvtool.experiments.sae.settings import DescribedBy
from kvtool.result import Row
from tests.support.sae.planted import (
    CONCEPTS,
    N_LAYERS,
    N_UNKNOWN,
    D,
    planted_scores,
    planted_streams,
)


def rows_of(scores: Scores, condition: str) -> list[Row]:
    rows = [row for row in scores.rows if row["condition"] == condition]
    assert [row["layer"] for row in rows] == list(range(N_LAYERS))
    return rows


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Scores:
    return planted_scores(tmp_path_factory.mktemp("planted"), aligned=2)


@pytest.mark.slow
def test_every_row_has_every_field(scores: Scores) -> None:
    assert all(tuple(row) == FIELDS for row in scores.rows)
    assert {row["condition"] for row in scores.rows} == {"text", "image", "other-image"}
    assert set(CONDITIONS) >= {row["condition"] for row in scores.rows}


@pytest.mark.slow
def test_closed_forms_of_aligned_tokens(scores: Scores) -> None:
    """Of each token exactly the codes of the last N_UNKNOWN directions are missed."""
    codes = np.concatenate(planted_streams().image_codes).astype(np.float64)
    missed = (codes[:, D - N_UNKNOWN :] ** 2).sum(axis=1)
    lengths = (codes**2).sum(axis=1)
    spread = ((codes - codes.mean(axis=0)) ** 2).sum()
    for row in rows_of(scores, "image")[2:]:
        assert row["mse"] == pytest.approx(missed.mean() / D)
        assert row["mse_token"] == pytest.approx(missed.mean() / D)
        assert row["nmse"] == pytest.approx((missed / lengths).mean())
        assert row["cos"] == pytest.approx(np.sqrt(1 - missed / lengths).mean())
        assert row["l0"] == pytest.approx((codes[:, : D - N_UNKNOWN] > 0).sum(axis=1).mean())
        assert row["l0_fraction"] == pytest.approx(row["l0"] / (D - N_UNKNOWN))
        assert row["bias"] == pytest.approx(1)
        assert row["norm"] == pytest.approx(np.median(np.sqrt(lengths)))
        assert row["alive"] == 1
        assert row["fvu"] == pytest.approx(missed.sum() / spread)
        assert row["fvu_low"] < row["fvu"] < row["fvu_high"]


@pytest.mark.slow
def test_fvu_text_is_about_the_text_of_the_training_half(scores: Scores) -> None:
    streams = planted_streams()
    codes = np.concatenate(streams.image_codes).astype(np.float64)
    text = np.concatenate(streams.text_codes[::2]).astype(np.float64)
    missed = (codes[:, D - N_UNKNOWN :] ** 2).sum()
    energy = ((codes - text.mean(axis=0)) ** 2).sum()
    for row in rows_of(scores, "image")[2:]:
        assert row["fvu_text"] == pytest.approx(missed / energy)


@pytest.mark.slow
def test_transfer_is_one_where_images_align_and_chance_elsewhere(scores: Scores) -> None:
    image = rows_of(scores, "image")
    text = rows_of(scores, "text")
    assert all(row["transfer"] == 1 and row["directions"] > 0.99 for row in image[2:])
    assert all(row["iou"] == 1 for row in image[2:])
    for row in [*image[:2], *rows_of(scores, "other-image")]:
        assert row["transfer"] == pytest.approx(0.5, abs=0.05)
        assert row["directions"] == pytest.approx(0.5, abs=0.08)
        assert row["transfer_low"] < 0.52
    assert all(row["transfer"] == row["transfer_text"] == 1 for row in text)


@pytest.mark.slow
def test_captions_are_found_where_images_align(scores: Scores) -> None:
    image = rows_of(scores, "image")
    controls = rows_of(scores, "other-image")
    for row in image[2:]:
        assert row["recall_1"] > 10 * row["recall_1_chance"]
        assert row["overlap"] > row["overlap_chance"] + 0.02
    for row in [*image[:2], *controls]:
        assert row["median_rank"] == pytest.approx(30, abs=8)
        assert row["overlap"] == pytest.approx(row["overlap_chance"], abs=0.02)


def test_the_layer_of_alignment_is_found(scores: Scores) -> None:
    config = curves_of(scores)
    by_measure = {entry["by"]: entry for entry in config["alignment_layer"]}
    for measure in ("transfer", "directions"):
        assert by_measure[measure] == {"by": measure, "layer": 2, "low": 2, "high": 2}
    points = {entry["by"]: entry["layer"] for entry in config["change_point"]}
    assert points["transfer"] == points["directions"] == 2


@pytest.mark.slow
def test_no_layer_of_alignment_where_there_is_none(tmp_path: Path) -> None:
    config = curves_of(planted_scores(tmp_path, aligned=N_LAYERS))
    layers = {entry["by"]: entry["layer"] for entry in config["alignment_layer"]}
    assert layers["transfer"] is None
    assert layers["directions"] is None


@pytest.mark.slow
def test_a_scale_changes_mse_by_its_square_and_fvu_not_at_all(
    scores: Scores, tmp_path: Path
) -> None:
    """Raw errors would call the longer tokens worse; what is missed of them is the same."""
    scaled = planted_scores(tmp_path, aligned=2, scale=10.0)
    for row, longer in zip(rows_of(scores, "image"), rows_of(scaled, "image"), strict=True):
        assert longer["mse"] == pytest.approx(100 * row["mse"])
        assert longer["norm_ratio"] == pytest.approx(10 * row["norm_ratio"])
        for name in ("fvu", "nmse", "cos", "l0", "transfer", "overlap"):
            assert longer[name] == pytest.approx(row[name]), name


def test_differences_are_those_of_the_rows(scores: Scores) -> None:
    for text, image in zip(rows_of(scores, "text"), rows_of(scores, "image"), strict=True):
        assert text["fvu_difference"] is None
        assert image["fvu_ratio"] == pytest.approx(image["fvu"] / text["fvu"])
        for name in ("fvu", "l0", "cos"):
            assert image[f"{name}_difference"] == pytest.approx(text[name] - image[name])
            low, high = image[f"{name}_difference_low"], image[f"{name}_difference_high"]
            assert low <= image[f"{name}_difference"] <= high


@pytest.mark.slow
def test_outliers_are_dropped_and_counted(tmp_path: Path) -> None:
    """Image tokens twenty times as long as text are all dropped, and scores of none are none."""
    image = rows_of(planted_scores(tmp_path, scale=20.0, outlier=10.0), "image")[0]
    assert image["n_tokens"] == 0
    assert image["n_outliers"] == 60 * 16
    assert image["fvu"] is None or np.isnan(image["fvu"])
    assert image["transfer"] is None


@pytest.mark.slow
def test_descriptions_fit_where_images_align(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features described by their words say what aligned images show, and of others nothing."""
    monkeypatch.setattr(describing, "MIN_FEATURES", 8)
    path = tmp_path / "descriptions.json"
    texts = {feature: f"mentions of a {word}" for feature, word in enumerate(CONCEPTS)}
    write_descriptions(path, dict.fromkeys(range(N_LAYERS), texts))
    by = DescribedBy(path)
    described = planted_scores(tmp_path / "study", described_by=by)
    image = rows_of(described, "image")
    for row in image[2:]:
        # Common words tell nothing, and so an image of two of them has no fit.
        assert row["described"] > 0.8
        assert row["described_chance"] < 0.5
    for row in [*image[:2], *rows_of(described, "other-image")[2:]]:
        assert row["described"] == pytest.approx(row["described_chance"], abs=0.2)
    cards = [item for item in described.items if item["layer"] == 2]
    assert cards
    for item in cards:
        assert item["description"] == texts.get(item["feature"])
        if item["concept"] is not None:
            assert item["words"][0] == item["concept"] == CONCEPTS[item["feature"]]
            assert item["transfer"] == 1
