"""Feature cards from a real store: the heat lies where the feature fires, and what is gone is
said."""

from __future__ import annotations

import base64
import shutil
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from kvtool.reporting.cards import CARD_PX
from kvtool.reporting.collect import report
from kvtool.store import Run, open_store
from kvtool.tasks.scoring import keep_result
from tests.support.page import Reader
from tests.support.sae_results import items, sae_result
from tests.support.tasks import semantic_correspondence as spair


def keep(run: Run) -> str:
    """Keep a result whose one feature fires in the last patch of an image alone; its id."""
    sample = run.samples[0]
    rows, cols = sample.base().grid
    activations = [0.0] * (rows * cols - 1) + [3.0]
    fields = {"image": sample.id, "grid": [rows, cols], "cells": list(range(rows * cols))}
    item = {**items(5)[0], **fields, "activations": activations}
    result = sae_result(layers=[5], items=[item])
    result = replace(result, config=result.config | {"run": run.name})
    keep_result(open_store(run.store), "sae", result)
    return sample.id


def test_the_heat_lies_where_the_feature_fires(tmp_path: Path) -> None:
    run = spair.make_run(tmp_path, "s.kv", kinds=("key", "value", "projected", "vision"))
    image = keep(run)
    page = report(run.store, tmp_path / "page.html")
    assert page.notes == ()
    reader = Reader(page.path.read_text(encoding="utf-8"))
    (uri,) = reader.data["pictures"].values()
    card = Image.open(BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert max(card.size) == CARD_PX
    assert image in reader.text
    pixels = np.asarray(card.convert("RGB"), int)
    is_red = pixels[..., 0] - pixels[..., 2] > 60
    # The last patch ends at the lower right corner of what the grid covers.
    sample = run.samples[0]
    x0, y0, x1, y1 = sample.base().cover_xyxy_px
    rows, cols = sample.base().grid
    scale = card.width / sample.image_wh_px[0]
    left, top = (x1 - (x1 - x0) / cols) * scale, (y1 - (y1 - y0) / rows) * scale
    ys, xs = np.nonzero(is_red)
    assert len(xs)
    assert xs.min() >= left - 3
    assert ys.min() >= top - 3


def test_pictures_that_are_gone_leave_a_page_without_cards(tmp_path: Path) -> None:
    run = spair.make_run(tmp_path, "s.kv", kinds=("key", "value", "projected", "vision"))
    keep(run)
    shutil.move(tmp_path / "data", tmp_path / "moved")
    page = report(run.store, tmp_path / "page.html")
    assert any("No pictures for sae" in note for note in page.notes)
    text = Reader(page.path.read_text(encoding="utf-8")).text
    assert "Features over pictures" not in text
    assert "Features chosen on words alone" in text


def test_the_page_names_no_folder_of_the_saes(tmp_path: Path) -> None:
    run = spair.make_run(tmp_path, "s.kv", kinds=("key", "value", "projected", "vision"))
    result = sae_result(layers=[0, 1], items=[])
    saes = [{"path": f"/home/her/saes/layer_{layer}/w", "layer": layer} for layer in (0, 1)]
    config = result.config | {"run": run.name, "sae": saes, "descriptions": "/home/her/words.json"}
    keep_result(open_store(run.store), "sae", replace(result, config=config))
    page = report(run.store, tmp_path / "page.html").path.read_text(encoding="utf-8")
    assert "/home/her" not in page
    assert "--sae &#39;saes/layer_{layer}/w&#39;" in page
    assert "--descriptions words.json" in page


def test_images_that_the_run_lacks_have_no_cards(tmp_path: Path) -> None:
    run = spair.make_run(tmp_path, "s.kv", kinds=("key", "value", "projected", "vision"))
    result = sae_result()
    result = replace(result, config=result.config | {"run": run.name})
    keep_result(open_store(run.store), "sae", result)
    page = report(run.store, tmp_path / "page.html")
    assert any("No pictures for sae" in note and "im0" in note for note in page.notes)
