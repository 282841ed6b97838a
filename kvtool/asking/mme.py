"""MME: the official result files, scored as MME's `eval_tool` does (protocol 7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from kvtool.asking.records import (
    FilePath,
    none_left,
    results_folder,
    scored,
    side_by_side,
)
from kvtool.datasets.files import found, read_text
from kvtool.datasets.mme import PAPER_SUBSETS
from kvtool.errors import DatasetError
from kvtool.metrics.answers import mme_scores, mme_units, parse_mme
from kvtool.progress import Progress
from kvtool.result import MAX_REASONS, Result, Row, versions
from kvtool.stats.bootstrap import Array

COLUMNS = "image TAB question TAB ground truth TAB answer"


def score_mme(answers: FilePath, *, seed: int = 0, progress: Progress | None = None) -> Result:
    """Score acc, acc_plus and score (percent, as published) of each subset, their means, and the
    total.

    `mme*`, the mean over count, color, position and existence, is there where these four are. An
    image whose ground truth cannot be used is left out and counted. Raises DatasetError that names
    file and line.

    Args:
        answers: a folder of <subset>.txt files; each two consecutive lines belong to one image:
            image TAB question TAB ground truth TAB answer.
        seed: the random seed of the intervals.
        progress: called with 1 and the name of each file that is read.
    """
    folder = results_folder(answers, "MME's <subset>.txt files")
    paths = sorted(path for path in folder.glob("*.txt") if path.is_file())
    if not paths:
        raise DatasetError(
            f"{folder}: expected <subset>.txt files, found {found(folder / 'x.txt', folder)}"
        )
    units, n_unreadable, skipped = _read_all(paths, progress)
    if not units:
        raise none_left(f"{folder}: questions", skipped)
    return Result(
        command="score",
        task="mme",
        metric="score",
        n=sum(map(len, units.values())),
        rows=_rows(units, n_unreadable, seed),
        config={"answers": str(answers), "seed": seed},
        versions=versions(),
        unit="percent",
        n_skipped=len(skipped),
        skipped=skipped[:MAX_REASONS],
    )


def _read_all(
    paths: Sequence[Path], progress: Progress | None
) -> tuple[dict[str, Array], list[int], list[str]]:
    """Read the subsets that can be scored: units and unreadable answers of each, and all notes."""
    units = {}
    n_unreadable = []
    skipped = []
    for path in paths:
        correct, n_other, unusable = _read(path)
        skipped += unusable
        if len(correct):
            units[path.stem] = correct
            n_unreadable.append(n_other)
        if progress is not None:
            progress(1, path.stem)
    return units, n_unreadable, skipped


def _read(path: Path) -> tuple[Array, int, list[str]]:
    """Read a subset: (image, 4) mme_units, the number of answers that are neither yes nor no, and
    notes.

    There is a note for each image that is left out, since the ground truth of one of its questions
    is neither Yes nor No.
    """
    lines = read_text(path).rstrip("\n").split("\n")
    rows = [_columns(line, f"{path}:{number}") for number, line in enumerate(lines, 1)]
    # The two questions on an image follow each other.
    for number, (first, second) in enumerate(zip(rows[::2], [*rows[1::2], None], strict=False)):
        if second is None or first[0] != second[0]:
            instead = "the end of the file" if second is None else f"image {second[0]}"
            raise DatasetError(
                f"{path}:{2 * number + 2}: expected a second question on image {first[0]}, found "
                f"{instead}"
            )
    answers = []
    correct = []
    skipped = []
    for number in range(0, len(rows), 2):
        pair = rows[number : number + 2]
        # The two questions of an image are scored together: without one truth both go.
        unusable = [
            _unusable(row, f"{path}:{number + offset}") for offset, row in enumerate(pair, 1)
        ]
        if any(unusable):
            skipped.append(next(filter(None, unusable)))
            continue
        parsed = [parse_mme(answer) for _, _, _, answer in pair]
        answers += parsed
        correct.append([answer == row[2].lower() for answer, row in zip(parsed, pair, strict=True)])
    return mme_units(np.array(correct, bool).reshape(-1, 2)), answers.count("other"), skipped


def _unusable(row: list[str], location: str) -> str:
    """Return what is wrong with the ground truth of a line; nothing for one that can be used."""
    if row[2].lower() in ("yes", "no"):
        return ""
    return f"{location}: expected the ground truth Yes or No, found {row[2][:40]!r}"


def _columns(line: str, location: str) -> list[str]:
    """Split a line into its columns. Raises DatasetError."""
    columns = line.split("\t")
    if len(columns) != 4:
        raise DatasetError(
            f"{location}: expected {COLUMNS} with 3 tabs, found {len(columns) - 1}: {line[:40]!r}"
        )
    return columns


def _rows(units: dict[str, Array], n_unreadable: Sequence[int], seed: int) -> list[Row]:
    """Return the summary, in which images are drawn within their subsets, and a row for each
    subset."""
    # A mean over subsets needs all of them in every resample: images are drawn within theirs.
    # Subsets stand side by side, zeros elsewhere: a unit adds to its own subset alone.
    together, strata = side_by_side(list(units.values()))
    scores = mean_scores(list(units))
    mean = scored(together, scores, strata=strata, seed=seed, top=tops(len(units)))
    rows: list[Row] = [{**mean, "n": len(together), "n_other": sum(n_unreadable)}]
    # A subset alone has no strata: its pictures are drawn freely.
    for (subset, subset_units), n_other in zip(units.items(), n_unreadable, strict=True):
        rows.append(
            {
                "subset": subset,
                **scored(subset_units, _scores, seed=seed, top=tops(1)),
                "n": len(subset_units),
                "n_other": n_other,
            }
        )
    return rows


def _scores(sums: Array) -> dict[str, Array]:
    scores = mme_scores(sums)
    return {name: scores[name] for name in ("score", "acc", "acc_plus")}


def tops(n_subsets: int) -> dict[str, float]:
    """Return the best of each score that there is, in MME's percent."""
    shares = {"acc": 100.0, "acc_plus": 100.0}
    return shares | {"score": 200.0, "mme*": 200.0, "total": 200.0 * n_subsets}


def mean_scores(subsets: Sequence[str]) -> Callable[[Array], dict[str, Array]]:
    """Return the scores of (..., 4 * subset) sums: the means over subsets, `total`, and the paper's
    `mme*`."""
    paper = [subsets.index(name) for name in PAPER_SUBSETS if name in subsets]

    def scores(sums: Array) -> dict[str, Array]:
        """Score sums (..., 4 * subset)."""
        by_subset = _scores(sums.reshape(*sums.shape[:-1], -1, 4))
        # The means weigh subsets equally, whatever their numbers of images.
        means = {name: values.mean(axis=-1) for name, values in by_subset.items()}
        means["total"] = by_subset["score"].sum(axis=-1)
        if len(paper) == len(PAPER_SUBSETS):
            means["mme*"] = by_subset["score"][..., paper].mean(axis=-1)
        return means

    return scores
