"""The plain name of every measure: of sentences, figures, and whatever else a reader sees of it
before the name of its column."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """What a column of scores is called.

    Attributes:
        name: Its plain name.
        short: The name where there is room for a word; "" for the plain one.
        level: What its numbers are read against where no chance level is known.
    """

    name: str
    short: str = ""
    level: str = ""


MEASURES = {
    "miou": Measure("overlap of mask and object (IoU)", "IoU"),
    "miou_present": Measure("overlap, classes in the ground truth alone (IoU)", "IoU"),
    "iou": Measure("overlap of mask and class (IoU)", "IoU"),
    "miou_fg": Measure("overlap of mask and object (IoU)", "IoU"),
    "miou_fgbg": Measure("overlap, object and background (IoU)", "IoU"),
    "j_mean": Measure("overlap of mask and object (J)", "J"),
    "j_and_f": Measure("overlap and outline of the mask (J&F)", "J&F"),
    "f_mean": Measure("outline of the mask (F)", "F"),
    "pck_image": Measure("points found (PCK)", "PCK"),
    "pck_point": Measure("points found (PCK), over all points", "PCK"),
    "auroc": Measure("AUROC", "AUROC"),
    "fvu": Measure("variance that the SAE does not give back (FVU)", "FVU"),
    "l0": Measure("active features of a token"),
    "transfer": Measure("features of words find their patches (AUROC)", "AUROC"),
    "directions": Measure("directions of words find their patches (AUROC)", "AUROC"),
    "accuracy": Measure("right answers"),
    "accuracy_change": Measure("change of right answers", level="0 is no change"),
    "f1": Measure("F1 of the answer yes", "F1"),
    "macro_f1": Measure("F1, mean over the files", "F1"),
    "acc": Measure("right answers"),
    "acc_plus": Measure("pictures with both questions right"),
    "score": Measure("score"),
    "margin_change": Measure("change of the right answer's margin", level="0 is no change"),
    "mass": Measure("share of attention on the picture"),
    "sink_share": Measure(
        "attention that the strongest 1 % of tokens draw", level="1 were all tokens alike"
    ),
    "overlap": Measure("sinks that two pictures have in common"),
    "variance": Measure("L2 variance"),
    "value": Measure("questions that values answer right", "right answers"),
    "value_pck": Measure("points that values find (PCK)", "PCK"),
}
"""By the name of the column."""


def plain_name(metric: str) -> str:
    """Return the plain name of a measure; of one that is not known its column's, as words."""
    measure = MEASURES.get(metric)
    return metric.replace("_", " ") if measure is None else measure.name


def short_measure(metric: str) -> str:
    """Return a measure's name where there is room for a word."""
    measure = MEASURES.get(metric)
    return (measure and measure.short) or plain_name(metric)


def level_words(metric: str) -> str:
    """Return what a measure without a chance level is read against; "" where nothing is known."""
    measure = MEASURES.get(metric)
    return "" if measure is None else measure.level


def column_beside(metric: str) -> str:
    """Return the column's name to stand behind the plain one; "" where they are alike."""
    return "" if plain_name(metric).lower() == metric else metric


def legend(metrics: Iterable[str]) -> str:
    """Return the plain names of columns, "miou: overlap of mask and object (IoU)"; "" of columns
    that say it themselves."""
    names = {metric: plain_name(metric) for metric in metrics if metric in MEASURES}
    return "; ".join(f"{metric}: {name}" for metric, name in names.items() if column_beside(metric))
