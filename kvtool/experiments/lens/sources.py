"""What the lens takes of a data set: words with their masks, and sentences."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvtool.autoencoders.documents import captions_of, open_documents
from kvtool.datasets import DATASETS
from kvtool.datasets.protocols import HasConcepts
from kvtool.datasets.records import CAPTIONS, CONCEPTS
from kvtool.digests import digest_texts
from kvtool.errors import UsageError
from kvtool.tasks.spread import spread

MOST_SENTENCES = 2000
"""Of more sentences so many are run, from all over."""


@dataclass(frozen=True)
class Sentences:
    """Sentences that directions are made of.

    Attributes:
        source: Where they come from; empty where there are none.
        texts: The sentences.
        absence: Why there are none.
    """

    source: str = ""
    texts: tuple[str, ...] = ()
    absence: str = ""

    @property
    def digest(self) -> str:
        """A digest of all sentences."""
        return digest_texts(self.texts)


def concepts_of(dataset: Any) -> HasConcepts:
    """Return a data set as one that has concepts. Raises UsageError that names those that do."""
    lack = dataset.lacks(CONCEPTS)
    if isinstance(dataset, HasConcepts) and not lack:
        return dataset
    raise UsageError(
        f"lens: expected a data set whose pictures have concepts with masks, found "
        f"{dataset.name}: {lack}; such are {_having(CONCEPTS)}. Without them, read an image with "
        "--image"
    )


def sentences_of(dataset: Any, text: str | Path | None) -> Sentences:
    """Return the sentences of a file, else the captions of a data set; none where it has none.

    Raises UsageError for a file that cannot be read.
    """
    if text is not None:
        documents = open_documents([text], what="lens")
        return Sentences(documents.name, tuple(spread(list(documents), MOST_SENTENCES)))
    # Without sentences the lens on the head's own words remains.
    if lack := dataset.lacks(CAPTIONS):
        return Sentences(
            absence=f"no word directions: {lack}; such data sets have captions: "
            f"{_having(CAPTIONS)}; or give sentences with --text"
        )
    return Sentences(CAPTIONS, tuple(spread(list(captions_of(dataset)), MOST_SENTENCES)))


def _having(service: str) -> str:
    """Return the names of the data sets that may serve something."""
    names = [name for name, kind in DATASETS.usable().items() if hasattr(kind, service)]
    return ", ".join(names)
