"""Cards of features on the page: a picture with its strongest features, as a result's items have
them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvtool.pictures.thumbnails import Drawn
from kvtool.reporting.numbers import words
from kvtool.result import Result, Row, best_row

CARDS_SHOWN = 12
"""The most cards of a result."""
CARD_PX = 192
"""The longer side of a card's picture."""


@dataclass(frozen=True)
class Card:
    """A feature of a picture: the item of the result, and the picture with its heat."""

    item: Row
    picture: Drawn

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What is known of the feature, names and texts."""
        presence = self.item.get("presence")
        concept = self.item.get("concept")
        auroc = self.item.get("transfer")
        facts = [
            ("image", str(self.item["image"])),
            ("feature", str(self.item["feature"])),
            ("description", self.item.get("description") or ""),
            ("words", ", ".join(self.item.get("words") or ())),
            ("stands for", "" if concept is None else f"{concept}, AUROC {words(auroc)}"),
            ("fires in", "" if presence is None else f"{100 * presence:.1f} % of the images"),
        ]
        return [(name, text) for name, text in facts if text]


def heat_of(item: Row) -> NDArray[np.float64]:
    """Return an item's activations over the patches, (row, col); NaN where a patch was not run."""
    rows, cols = item["grid"]
    heat = np.full(rows * cols, np.nan)
    heat[np.array(item["cells"], np.int64)] = item["activations"]
    return heat.reshape(rows, cols)


def items_shown(result: Result) -> list[Row]:
    """Return the items of the layer in which words find their patches best, with CARDS_SHOWN at
    most; of the layer of least error where that is not known."""
    layers = {item["layer"] for item in result.items if "activations" in item}
    rows = [row for row in result.rows if row["layer"] in layers and row["condition"] == "image"]
    best = best_row(rows, "transfer") or best_row(rows, "fvu", higher_is_better=False)
    if best is None:
        return []
    items = [item for item in result.items if item["layer"] == best["layer"]]
    return items[:CARDS_SHOWN]
