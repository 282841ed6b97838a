"""Question answering: POPE (Li et al. 2023, `evaluate.py`), MME (Fu et al. 2023, `eval_tool`), multiple choice."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np

from kvtool.stats.bootstrap import Array, ratio


def parse_pope(answer: str) -> Literal["yes", "no"]:
    """The official reading: up to the first '.', commas deleted, split on ' '; "No", "not" or "no" means no."""
    words = answer.split(".", 1)[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & set(words) else "yes"


def pope_units(said_yes: Array, is_yes: Array) -> Array:
    """Per question [true positive, false positive, true negative, false negative], (..., question, 4)."""
    said, truth = np.broadcast_arrays(np.asarray(said_yes, bool), np.asarray(is_yes, bool))
    return np.stack([said & truth, said & ~truth, ~said & ~truth, ~said & truth], axis=-1).astype(
        np.float64
    )


def pope_scores(sums: Array) -> dict[str, Array]:
    """accuracy, precision, recall, f1, yes_ratio (over predictions). Without a predicted yes precision and f1 are 0."""
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
    """The official reading: lower case, "yes" or else "no" within the first 4 characters, else other."""
    head = answer.lower()[:4]
    return "yes" if "yes" in head else "no" if "no" in head else "other"


def mme_units(correct: Array) -> Array:
    """Per image of two questions [right answers, questions, both right, 1]: (..., image, 2) bool -> (..., image, 4)."""
    right = np.asarray(correct, bool).sum(axis=-1).astype(np.float64)
    return np.stack([right, np.full_like(right, 2.0), right == 2, np.ones_like(right)], axis=-1)


def mme_scores(sums: Array) -> dict[str, Array]:
    """acc and acc_plus in percent, score = their sum, as MME prints them."""
    acc = 100 * ratio(sums[..., 0], sums[..., 1])
    plus = 100 * ratio(sums[..., 2], sums[..., 3])
    return {"acc": acc, "acc_plus": plus, "score": acc + plus}


def mme_subset(answers: Sequence[str], truths: Sequence[str]) -> dict[str, float]:
    """acc, acc_plus, score (percent), n_images and n_other of one subset; two consecutive questions per image."""
    said = [parse_mme(answer) for answer in answers]
    correct = np.array([s == t.lower() for s, t in zip(said, truths, strict=True)], bool).reshape(
        -1, 2
    )
    scores = {
        name: float(value) for name, value in mme_scores(mme_units(correct).sum(axis=0)).items()
    }
    return scores | {"n_images": len(correct), "n_other": said.count("other")}


BRACKETED = re.compile(r"\(([a-z])\)")
BARE = re.compile(
    r"(?:(?:the )?(?:correct )?(?:answer|option|choice)(?: is)?:? ?)?([a-z])(?:[.:)](?= |$)|$)"
)


def parse_choice(answer: str, choices: Sequence[str]) -> str:
    """The option that an answer names, "(A)", "(B)", ...; "" where it names none or several, which is wrong.

    Ours, since the benchmarks have none that needs no language model. The first rule that says something holds:
    1. letters in brackets, "(B)"; 2. a bare letter as the whole first line, or that a '.', ':' or ')' follows, leading
    or after "answer", "the answer is", "option" and the like; 3. the choices' texts, as whole words, the longest
    where one is part of another. Case is ignored, and so are letters beyond the number of choices.
    """
    first, _, _ = answer.strip().partition("\n")
    text, first = _plain(answer), _plain(first)
    letters = "abcdefghijklmnopqrstuvwxyz"[: len(choices)]
    if bracketed := set(BRACKETED.findall(text)) & set(letters):
        return _only(bracketed)
    if (bare := BARE.match(first)) and bare[1] in letters:
        return _only({bare[1]})
    texts: dict[str, set[str]] = {}
    for letter, choice in zip(letters, choices, strict=False):
        texts.setdefault(_plain(choice), set()).add(letter)
    longest_first = sorted((re.escape(choice) for choice in texts if choice), key=len, reverse=True)
    # 3 does not occur in 3.5 or 1,003.
    words = rf"(?<!\w)(?<!\d[.,])(?:{'|'.join(longest_first)})(?!\w|[.,]\d)"
    found = re.findall(words, text) if longest_first else []
    return _only({letter for choice in found for letter in texts[choice]})


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _only(letters: set[str]) -> str:
    return f"({next(iter(letters)).upper()})" if len(letters) == 1 else ""
