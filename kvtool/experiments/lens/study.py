"""The measure of the lens: what it depends on, and its result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kvtool.errors import KvtoolError
from kvtool.experiments.lens.measures import Measuring
from kvtool.experiments.lens.patches import LabeledPatches, label_patches
from kvtool.experiments.lens.sources import Sentences, concepts_of
from kvtool.experiments.lens.words import PatchWords, patch_words
from kvtool.features.residual import load_for_streams
from kvtool.progress import Progress
from kvtool.reporting.numbers import plural
from kvtool.result import MAX_REASONS, Result, Row, best_row, result_key, versions
from kvtool.store import Run, open_store
from kvtool.store.provenance import ALGORITHMS, describe_run
from kvtool.store.shares import Share, chunk_name
from kvtool.tasks.scoring import keep_result

if TYPE_CHECKING:
    from kvtool.models.base import LanguageModel
    from kvtool.models.language import Language

METRIC = "auroc"
EXAMPLES = 2
"""Images whose words a result keeps for the page."""
LAYERS_DRAWN = 4
"""Layers whose words are drawn, unless some are chosen."""


def some_layers(layers: Sequence[int]) -> tuple[int, ...]:
    """Return LAYERS_DRAWN of the layers from all over, the first and the last among them."""
    if len(layers) <= LAYERS_DRAWN:
        return tuple(layers)
    step = (len(layers) - 1) / (LAYERS_DRAWN - 1)
    return tuple(layers[round(step * index)] for index in range(LAYERS_DRAWN))


@dataclass
class LensReader:
    """What reads a run's images: its layers, and its language model, loaded when it is needed.

    Attributes:
        run: The run.
        layers: The decoder's layers that are read.
        source: The place of the run's model, if its name does not say it.
        device: The device of the model.
    """

    run: Run
    layers: tuple[int, ...]
    source: str | None
    device: str

    @cached_property
    def model(self) -> LanguageModel:
        """The run's model: its norm and its head read every stream, whoever computed it."""
        from kvtool.engine.run_model import load_run_model

        computing = load_for_streams(self.run, self.layers, self.source, self.device)
        return computing or load_run_model(self.run, self.source, self.device)

    @cached_property
    def language(self) -> Language:
        """The language model within it."""
        from kvtool.models.language import language_of

        return language_of(self.model)

    def words(self, ids: Sequence[str], layers: Sequence[int]) -> Iterator[PatchWords]:
        """Yield the likeliest words at the patches of images after some layers."""
        return patch_words(self.run, self.model, self.language, ids, layers)


@dataclass
class LensStudy:
    """A measure over a run's images.

    Attributes:
        reader: What reads them.
        dataset: The data set, which has concepts.
        sentences: What directions are made of.
        tokens: How many patches of an image are measured, or "all".
        limit: The number of images; None for all.
        seed: The random seed.
    """

    reader: LensReader
    dataset: Any
    sentences: Sentences
    tokens: int | Literal["all"]
    limit: int | None
    seed: int

    @property
    def ids(self) -> list[str]:
        """The images that are measured."""
        return self.reader.run.ids[: self.limit]

    @cached_property
    def config(self) -> dict[str, Any]:
        """All that the numbers depend on."""
        return {
            "command": "lens",
            "algorithm": ALGORITHMS["lens"],
            **describe_run(self.reader.run, self.ids),
            "truth_hash": self.dataset.truth_digest(),
            "layers": list(self.reader.layers),
            "tokens": self.tokens,
            "limit": self.limit,
            "text": self.sentences.source,
            "sentences": len(self.sentences.texts),
            "sentences_hash": self.sentences.digest,
            "seed": self.seed,
        }

    def kept(self, fresh: bool, wait_s: float, progress: Progress) -> Result:
        """Return the result that the store keeps, or measure it and keep it."""
        run = self.reader.run
        store = open_store(run.store)
        key = result_key(self.config)

        def make() -> Result:
            """Measure all layers, and keep what came of it."""
            return keep_result(store, key, self.measure(progress))

        def stored() -> Result | None:
            """Return what is kept, unless all is to be measured anew."""
            return None if fresh else store.kept(key, Result.from_json)

        return Share(wait_s).result(run, chunk_name("lens", "words", key), stored, make)

    def measure(self, progress: Progress) -> Result:
        """Measure all layers."""
        from kvtool.features.lens import first_pieces

        reader = self.reader
        patches = label_patches(
            reader.run, concepts_of(self.dataset), self.ids, self.tokens, self.seed
        )
        # A word is known to the head by its first piece alone.
        pieces = first_pieces(reader.language, patches.concepts)
        measuring = self._measuring(patches, pieces)
        rows = measuring.rows(reader.layers, progress)
        if not rows:
            raise KvtoolError(
                "lens: expected concepts whose words the tokenizer or the sentences have, found "
                f"none of {', '.join(patches.concepts)}"
            )
        skipped = [*patches.skipped, *dict.fromkeys(measuring.skipped)]
        examples = self._examples(patches)
        notes = self._notes(patches, pieces, rows)
        outcome = {"n_words": reader.language.n_words, "notes": notes}
        return Result(
            command="lens",
            task=None,
            metric=METRIC,
            n=max((row["n_images"] for row in rows), default=0),
            rows=rows,
            best=best_row(rows, METRIC),
            config=self.config | outcome,
            versions=versions(),
            n_skipped=len(skipped),
            skipped=skipped[:MAX_REASONS],
            unit=METRIC,
            items=[
                reading.item() for reading in reader.words(examples, some_layers(reader.layers))
            ],
        )

    def _measuring(self, patches: LabeledPatches, pieces: dict[str, int]) -> Measuring:
        """Return what measures the patches, by words in sentences too where there are some."""
        from kvtool.features.word_states import SentenceWords

        reader = self.reader
        texts = self.sentences.texts
        words = SentenceWords(reader.language, texts, patches.concepts) if texts else None
        return Measuring(
            reader.run, patches, reader.model, reader.language, pieces, words, self.seed
        )

    def _examples(self, patches: LabeledPatches) -> list[str]:
        """Return the images of which the most patches show a concept."""
        n_shown = np.bincount(patches.images, (patches.labels == 1).any(axis=1))
        ids = list(patches.tokens)
        return [ids[number] for number in np.argsort(-n_shown, kind="stable")[:EXAMPLES]]

    def _notes(
        self, patches: LabeledPatches, pieces: dict[str, int], rows: Sequence[Row]
    ) -> list[str]:
        """Say which measure there is not, which concepts it has to do without, and which it cannot
        tell apart.
        """
        notes = []
        if all(row["measure"] != "directions" for row in rows):
            notes.append(
                self.sentences.absence
                or f"no word directions: expected two concepts in {self.sentences.source}, found "
                "fewer; give sentences with --text"
            )
        if unknown := [concept for concept in patches.concepts if concept not in pieces]:
            notes.append(
                f"lens: without {plural(len(unknown), 'concept')} whose word the tokenizer does "
                f"not know: {', '.join(unknown)}"
            )
        counts = Counter(pieces.values())
        if shared := [concept for concept, piece in pieces.items() if counts[piece] > 1]:
            notes.append(
                f"lens: {', '.join(shared)} begin with a piece that another of them begins with, "
                "and cannot be told from it"
            )
        return notes
