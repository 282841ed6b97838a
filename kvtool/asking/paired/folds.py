"""Folds of questions: what a probe is trained on when it is asked about the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kvtool.tasks.base import Array


def stratified_folds(
    labels: Sequence[int], folds: int, seed: int, images: Sequence[str] | None = None
) -> tuple[int, ...]:
    """Return the fold of each question: each label's questions in a random order, dealt out in
    turn.

    Questions about one image are in one fold, which the first of them is dealt to: a probe would
    otherwise be asked about the very vectors that it was trained on. Without any fold there are
    questions of each label left that two images or more have.
    """
    if not labels:
        return ()
    rng = np.random.default_rng(seed)
    # A group is what must stay in one fold: an image, or else a single question.
    groups = list(range(len(labels))) if images is None else [*images]
    first, group = np.unique(np.array(groups), return_index=True, return_inverse=True)[1:]
    order = np.sort(first)
    fold_of_first = np.zeros(len(labels), int)
    dealt = 0
    # Each label is dealt evenly, and the next goes on where the last stopped: folds keep one size.
    for label in sorted(set(labels)):
        members = rng.permutation(order[np.asarray(labels)[order] == label])
        fold_of_first[members] = (dealt + np.arange(len(members))) % folds
        dealt += len(members)
    fold_of_group = _apart(fold_of_first[first], group, np.asarray(labels), folds)
    return tuple(fold_of_group[group].tolist())


def _apart(fold_of_group: Array, group: Array, labels: Array, folds: int) -> Array:
    """Return the folds of groups (group,) with the questions of each label in two folds or more, as
    far as there are two groups of it.

    Only groups of several labels are dealt so that a label can lie in one fold: without that fold
    a probe would be trained on the others alone.
    """
    mended = fold_of_group.copy()
    # How many questions of each label a group has, (label, group).
    counts = np.stack(
        [np.bincount(group[labels == label], minlength=len(mended)) for label in np.unique(labels)]
    )
    is_mixed = (counts > 0).sum(axis=0) > 1
    for members in map(np.flatnonzero, counts):
        if len(members) < 2 or folds < 2 or len(np.unique(mended[members])) > 1:
            continue
        # A group of this label alone takes no other label with it.
        moved = min(members.tolist(), key=lambda member: (is_mixed[member], member))
        sizes = np.bincount(mended, minlength=folds)
        sizes[mended[moved]] = len(mended) + 1
        mended[moved] = sizes.argmin()
    return mended
