"""What the page says of SAEs on image tokens: never more than transfer and its controls carry."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kvtool.experiments.sae.article import (
    command,
    falling_error,
    found_patches,
    sae_paths,
    sentences,
)
from kvtool.pictures.thumbnails import Drawn
from kvtool.reporting import KeptResult, render
from kvtool.reporting.cards import Card, heat_of, items_shown
from kvtool.result import Result
from tests.support import studies
from tests.support.page import Reader
from tests.support.sae_results import (
    CHANCE_LEVEL,
    directions_result,
    items,
    sae_result,
)


def page_of(result: Result) -> Reader:
    cards = [Card(item, Drawn("name", "Feature", 192, 128)) for item in items_shown(result)]
    options = {"cards": {0: cards}, "pictures": {"name": "data:image/webp;base64,AAAA"}}
    return Reader(render(studies.study(result, **options)))


def test_the_finding_is_one_sentence_with_the_layer_and_the_controls() -> None:
    result = sae_result()
    line = found_patches(result)
    assert line == (
        "Features chosen on words alone find the patches of these words: AUROC "
        "0.945 [0.925, 0.965] in layer 7, the best of 8 (near that from layer "
        "3 [2, 4] on; controls: 0.490 to 0.550; chance is 0.500)."
    )
    assert line in page_of(result).text


def test_no_layer_of_alignment_is_none() -> None:
    assert "in the last layer no longer near that" in found_patches(sae_result(aligned=None))


def test_what_controls_reach_as_well_is_no_finding() -> None:
    result = sae_result()
    level = {"transfer": 0.56, "transfer_low": 0.54, "transfer_high": 0.58}
    rows = [row | level if row["condition"] == "image" else row for row in result.rows]
    assert "do not find" in found_patches(replace(result, rows=rows))
    # Without controls the interval is above 0.5, which is all that can be said.
    uncontrolled = [row for row in rows if row["condition"] not in CHANCE_LEVEL]
    line = found_patches(replace(result, rows=uncontrolled))
    assert " find the patches" in line
    assert "no control was run" in line


def test_a_falling_error_is_set_beside_that_of_the_controls() -> None:
    line = falling_error(sae_result()) or ""
    assert "no evidence of alignment: from the first layer to the last fvu goes image 2.55" in line
    assert all(condition in line for condition in CHANCE_LEVEL)
    assert "no control was run" in (falling_error(sae_result(conditions=("text", "image"))) or "")
    assert falling_error(sae_result(layers=[3])) is None
    assert falling_error(directions_result()) is None


def test_nothing_is_claimed_where_nothing_is_known() -> None:
    result = sae_result()
    unknown = dict.fromkeys(("transfer", "transfer_low", "transfer_high"))
    rows = [row | unknown | {"match": None} for row in result.rows]
    lines = list(sentences(replace(result, rows=rows)))
    assert lines[0].startswith("Whether image tokens are aligned is not known: transfer needs")
    assert len(lines) == 2


def test_word_directions_are_told_as_such() -> None:
    (line,) = sentences(directions_result())
    assert line.startswith("Word directions find the patches of these words: AUROC 0.945")
    text = page_of(directions_result()).text
    assert "without an SAE" in text
    assert "fvu of text" not in text


@pytest.mark.parametrize(
    "result",
    [
        sae_result(),
        sae_result(layers=[5]),
        sae_result(conditions=("image",)),
        sae_result(conditions=("text",)),
        sae_result(saes=("layer_{}/a", "layer_{}/b")),
        directions_result(),
        replace(sae_result(), items=[]),
    ],
)
def test_pages_of_every_shape(result: Result) -> None:
    reader = page_of(Result.from_json(result.to_json()))
    assert "Image tokens in the features of language" in reader.text
    for line in sentences(result):
        assert line in reader.text
    for condition in dict.fromkeys(row["condition"] for row in result.rows):
        assert condition in reader.text


def test_the_table_has_the_image_layer_by_layer_beside_text_and_controls() -> None:
    result = sae_result()
    (table,) = (
        value for name, value in page_of(result).data["tables"].items() if name.endswith("-layers")
    )
    assert len(table["rows"]) == 8
    assert "text_fvu" in table["columns"]


def test_a_card_shows_a_feature_with_its_words() -> None:
    reader = page_of(sae_result())
    assert "Features over pictures, layer 7" in reader.text
    pictures = [attributes for tag, attributes in reader.elements if tag == "img"]
    assert len(pictures) == 6
    for words in ("names of animals", "cat, dog", "cat, AUROC 0.97", "3.0 % of the images"):
        assert words in reader.text


def test_cards_are_of_the_layer_that_transfers_best() -> None:
    result = replace(sae_result(), items=[*items(2), *items(6)])
    assert {item["layer"] for item in items_shown(result)} == {6}
    assert len(items_shown(replace(result, items=items(6, n_images=9)))) == 12
    unknown = [row | {"transfer": None} for row in result.rows]
    assert {item["layer"] for item in items_shown(replace(result, rows=unknown))} == {6}
    assert items_shown(replace(result, rows=[])) == []


def test_the_heat_of_a_card_has_a_hole_where_a_patch_was_not_run() -> None:
    heat = heat_of(items(7)[0])
    np.testing.assert_array_equal(heat, [[0.0, 0.5, 2.0], [0.0, np.nan, 1.0]])


def test_the_command_is_what_was_run() -> None:
    result = sae_result(conditions=("text", "image", "random"))
    stored = KeptResult("s.kv", result)
    first = ["sae", "s.kv", "--run", "r", "--sae", "/saes/layer_{layer}/w.npz"]
    config = result.config | {"tokens": "all", "limit": 20}
    flags = ["--limit", "20", "--conditions", "random", "--tokens", "all"]
    assert command(stored, config, {"layers": list(range(8))}) == [*first, *flags]
    narrowed = command(stored, result.config, {"layers": list(range(9))})
    assert narrowed == [*first, "--layers", "0-7", "--conditions", "random"]


def test_how_saes_are_named() -> None:
    shipped = [{"path": f"/x/kvtool/demo/saes/layer_{layer}", "layer": layer} for layer in (0, 1)]
    assert sae_paths(shipped) == ["demo"]
    assert sae_paths("none") == ["none"]
    files = [{"path": f"/x/{name}.pt", "layer": layer} for layer, name in enumerate("ab")]
    assert sae_paths(files) == ["/x/a.pt", "/x/b.pt"]
    widths = [{"path": f"/layers.{layer}/width_{layer}k", "layer": layer} for layer in (1, 16, 11)]
    assert sae_paths(widths) == [file["path"] for file in widths]
    sources = [{"path": f"/layers.{layer}/width_1k", "layer": layer} for layer in (1, 16, 11)]
    assert sae_paths(sources) == ["/layers.{layer}/width_1k"]
