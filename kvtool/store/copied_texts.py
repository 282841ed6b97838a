"""The vectors of texts in a copy of chosen kinds or layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from kvtool.store.encoding import Bits
from kvtool.store.run import Run
from kvtool.store.texts import text_arrays


def copy_texts(run: Run, target: Run) -> None:
    """Copy the vectors of texts that a run of chosen kinds or layers keeps."""
    arrays = text_arrays(target.config)
    if not arrays:
        return
    for template in run.text_templates:
        texts = run.texts(template)
        names = texts.names(arrays[0])
        vectors = texts.vectors_for(target.config, names) if names else None
        if vectors:
            _commit_texts(target, template, names, vectors, texts.token_counts)


def _commit_texts(
    target: Run,
    template: str,
    names: Sequence[str],
    vectors: Mapping[str, Bits],
    counts: Mapping[str, int],
) -> None:
    """Commit texts in their order, with the counts of tokens that are known."""
    # Texts of an older kvtool lack the counts. A part of texts records those of all its texts or
    # of none, so that each stretch of texts that are alike in this becomes a part.
    for is_counted, stretch in groupby(range(len(names)), lambda row: names[row] in counts):
        rows = list(stretch)
        stretch_names = [names[row] for row in rows]
        stretch_vectors = {array: values[rows] for array, values in vectors.items()}
        token_counts = [counts[name] for name in stretch_names] if is_counted else []
        target.commit_text(stretch_names, stretch_vectors, template, token_counts)
