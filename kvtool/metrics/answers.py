"""Question answering: POPE, MME, and the reading of multiple-choice answers.

The sources are `evaluate.py` of POPE (Li et al. 2023) and `eval_tool` of MME (Fu et al. 2023).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Literal

import numpy as np

from kvtool.stats.bootstrap import Array, ratio


def parse_pope(answer: str) -> Literal["yes", "no"]:
    """Read an answer as the official evaluator does.

    The text counts up to the first '.', without commas. It is split on ' ', and "No", "not" or "no"
    means no.
    """
    tokens = answer.split(".", 1)[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & set(tokens) else "yes"


def pope_units(answered_yes: Array, is_yes: Array) -> Array:
    """Count true and false positives, true and false negatives.

    Answers and truths (..., question) are broadcast against each other; the units are
    (..., question, 4).
    """
    answer, truth = np.broadcast_arrays(np.asarray(answered_yes, bool), np.asarray(is_yes, bool))
    cells = [answer & truth, answer & ~truth, ~answer & ~truth, ~answer & truth]
    return np.stack(cells, axis=-1).astype(np.float64)


def pope_scores(sums: Array) -> dict[str, Array]:
    """Turn sums of `pope_units` (..., 4) into accuracy, precision, recall, f1 and yes_ratio.

    The ratio is that of the predictions. Without a predicted yes precision and f1 are 0.
    """
    # The order of pope_units.
    tp, fp, tn, fn = np.moveaxis(sums, -1, 0)
    total = tp + fp + tn + fn
    return {
        "accuracy": ratio(tp + tn, total),
        "precision": ratio(tp, tp + fp, empty=0.0),
        "recall": ratio(tp, tp + fn, empty=0.0),
        "f1": ratio(2 * tp, 2 * tp + fp + fn, empty=0.0),
        "yes_ratio": ratio(tp + fp, total),
    }


def parse_mme(answer: str) -> Literal["yes", "no", "other"]:
    """Read an answer as the official evaluator does.

    It looks for "yes", and then for "no", in the first 4 characters, whatever their case.
    """
    head = answer.lower()[:4]
    if "yes" in head:
        return "yes"
    return "no" if "no" in head else "other"


def mme_units(correct: Array) -> Array:
    """Count the right answers to an image's two questions: (..., image, 2) -> (..., image, 4).

    The columns are the right answers, the questions, whether both are right, and 1.
    """
    # Both questions of an image: acc counts each, acc_plus the image.
    right = np.asarray(correct, bool).sum(axis=-1).astype(np.float64)
    return np.stack([right, np.full_like(right, 2.0), right == 2, np.ones_like(right)], axis=-1)


def mme_scores(sums: Array) -> dict[str, Array]:
    """Turn sums of `mme_units` (..., 4) into acc and acc_plus, in percent, and score, their sum."""
    acc = 100 * ratio(sums[..., 0], sums[..., 1])
    plus = 100 * ratio(sums[..., 2], sums[..., 3])
    return {"acc": acc, "acc_plus": plus, "score": acc + plus}


def mme_subset(answers: Sequence[str], truths: Sequence[str]) -> dict[str, float]:
    """Score one subset, in which an image has two consecutive questions.

    Returns:
        acc, acc_plus and score in percent, n_images, and n_other, the answers that are neither.
    """
    readings = [parse_mme(answer) for answer in answers]
    right = [reading == truth.lower() for reading, truth in zip(readings, truths, strict=True)]
    # Two questions that follow each other are of one image.
    correct = np.array(right, bool).reshape(-1, 2)
    scores = mme_scores(mme_units(correct).sum(axis=0))
    figures = {name: float(value) for name, value in scores.items()}
    return figures | {"n_images": len(correct), "n_other": readings.count("other")}


BRACKETED = re.compile(r"\(([a-z])\)")
BARE = re.compile(
    r"(?:(?:the )?(?:correct )?(?:answer|option|choice)(?: is)?:? ?)?([a-z])(?:[.:)](?= |$)|$)"
)


MARKS = re.compile(r"\*+|`+|(?<!\w)_+|_+(?!\w)")


def parse_choice(answer: str, choices: Sequence[str]) -> str:
    """Return the option that an answer names, "(A)", "(B)", ...

    It is "" where the answer names none or several, which is wrong. The rules are ours, since the
    benchmarks have none that needs no language model. The first one that finds something counts:

    1. Letters in brackets, "(B)".
    2. A bare letter that is the whole first line, or that a '.', ':' or ')' follows. It leads, or
       it comes after "answer", "the answer is", "option" and the like.
    3. The choices' texts, as whole words, the longest where a text is part of another.

    Case and width (of East Asian forms) are ignored, and so are letters beyond the number of
    choices and the marks of Markdown: "**B**" is B.
    """
    text = _plain(answer)
    first_line = _plain(answer.strip().partition("\n")[0])
    letters = "abcdefghijklmnopqrstuvwxyz"[: len(choices)]
    if bracketed := set(BRACKETED.findall(text)) & set(letters):
        return _only(bracketed)
    if (bare := BARE.match(first_line)) and bare[1] in letters:
        return _only({bare[1]})
    texts: dict[str, set[str]] = {}
    for letter, choice in zip(letters, choices, strict=False):
        texts.setdefault(_plain(choice), set()).add(letter)
    # A choice that is part of another must not hide it.
    longest_first = sorted((re.escape(choice) for choice in texts if choice), key=len, reverse=True)
    if not longest_first:
        return ""
    # 3 does not occur in 3.5 or 1,003.
    pattern = rf"(?<!\w)(?<!\d[.,])(?:{'|'.join(longest_first)})(?!\w|[.,]\d)"
    matches = re.findall(pattern, text)
    return _only({letter for choice in matches for letter in texts[choice]})


def _plain(text: str) -> str:
    """Return a text in lower case on one line, full-width letters as plain ones, without the stars,
    underscores and backticks by which Markdown marks words."""
    unmarked = MARKS.sub("", unicodedata.normalize("NFKC", text))
    return " ".join(unmarked.casefold().split())


def _only(letters: set[str]) -> str:
    return f"({next(iter(letters)).upper()})" if len(letters) == 1 else ""
