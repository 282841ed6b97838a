"""Attention on pictures from a run's stored caches: no picture is run again.

Texts about one picture share its stored keys and values; those of equal numbers of tokens run
together. Of each text the attention of its chosen tokens on every token of the image is given, per
layer and query head.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from kvtool.asking.caches import cache_kinds, is_whole, spoiled_arrays
from kvtool.asking.inquiries import Inquiry
from kvtool.asking.query_tokens import QuerySource, QueryText, query_text
from kvtool.errors import UsageError
from kvtool.features.residual import ATTENTIONS
from kvtool.layers import LayerChoice, resolve_layers
from kvtool.progress import Progress
from kvtool.store import Run
from kvtool.store.nonfinite import WHAT
from kvtool.types import Sample

if TYPE_CHECKING:
    from kvtool.models.base import LanguageModel

Array = np.ndarray[Any, Any]
MAPS_BYTES = 2**27
"""What the maps of texts that run together take at most, unless a single one takes more."""
COPIES_BYTES = 2**30
"""What their copies of the image's keys and values take at most, unless a single one takes more."""
TOGETHER = 32
"""Texts that run together at most."""


@dataclass(frozen=True)
class Look:
    """The attention of one text's chosen tokens on an image.

    Attributes:
        inquiry: What was asked.
        sample: The image.
        attention: (layer, q_head, query, image_token) float32; shares of all that a token sees.
        words: What each query token writes, (query,).
        answer: What the model answered, where that was needed.
    """

    inquiry: Inquiry
    sample: Sample
    attention: Array
    words: tuple[str, ...]
    answer: str = ""

    @property
    def mean(self) -> Array:
        """The mean over the query tokens, (layer * q_head, image_token)."""
        maps: Array = self.attention.mean(axis=2)
        return maps.reshape(-1, maps.shape[-1])


@dataclass
class Attender:
    """Reads a run's caches and gives the attention of texts on its images.

    Attributes:
        run: The run, which holds keys and values of all layers.
        source: Which tokens of a text look.
        layers: The decoder's layers that are watched.
        model_source: The place of the run's model, if its name does not say it.
        device: The device of the model.
        max_new_tokens: The most tokens of an answer.
        skipped: A line for each inquiry that nothing could be taken of.
    """

    run: Run
    source: QuerySource
    layers: tuple[int, ...]
    model_source: str | None = None
    device: str = "auto"
    max_new_tokens: int = 16
    skipped: list[str] = field(default_factory=list)

    @cached_property
    def model(self) -> LanguageModel:
        """The run's model, loaded when it is first needed."""
        from kvtool.engine.run_model import load_run_model

        # The run's backend, where it takes a mask for each token.
        backend = self.run.config.model.attention
        attention = backend if backend in ATTENTIONS else ATTENTIONS[0]
        return load_run_model(self.run, self.model_source, self.device, attention=attention)

    def looks(self, inquiries: Sequence[Inquiry], progress: Progress) -> Iterator[Look]:
        """Yield the attention of each inquiry, picture by picture; those of which nothing can be
        taken are left out and named in `skipped`.
        """
        # A picture's cache is restored once for all that is asked about it.
        by_image: dict[str, list[Inquiry]] = {}
        for inquiry in inquiries:
            by_image.setdefault(inquiry.image, []).append(inquiry)
        for image, members in by_image.items():
            yield from self._looks_at(image, members)
            progress(1, image)

    def _looks_at(self, image: str, inquiries: Sequence[Inquiry]) -> Iterator[Look]:
        """Yield the attention of the inquiries about one image."""
        kinds = cache_kinds(self.run.config.model.geometry)
        arrays = self.run.read_image(image, kinds, raw=True)
        # A cache with one value that is not finite gives attention that means nothing.
        if spoiled := spoiled_arrays(arrays):
            self.skipped.append(
                f"image {image}: expected a finite cache, found {WHAT} in {', '.join(spoiled)}: "
                "extract it again, with --dtype bfloat16 where it is float16"
            )
            return
        sample = self.run.image(image).sample
        cache = self.model.restore([sample], [arrays], self.run.config.keys)
        # With an answer after the question, its tokens can be what looks at the image.
        answers = self._answers(cache, sample, inquiries)
        texts: dict[Inquiry, QueryText] = {}
        for inquiry in inquiries:
            answer = answers.get(inquiry, "")
            text = query_text(self.model, self.source, inquiry.text, answer or "")
            # A word that the question lacks has no tokens that could look.
            if text.queries:
                texts[inquiry] = text
            else:
                self.skipped.append(f"question {inquiry.id}: {self._absence(inquiry)}")
        for batch in self._batches(texts, sample):
            yield from self._attended(batch, texts, cache, sample, answers)

    def _answers(
        self, cache: Any, sample: Sample, inquiries: Sequence[Inquiry]
    ) -> dict[Inquiry, str | None]:
        """Return what the model answers, where the answer's tokens look."""
        if not self.source.is_answer:
            return {}
        turns = [self.model.question(inquiry.text) for inquiry in inquiries]
        answers = self.model.ask(cache, sample, turns, self.max_new_tokens)
        return dict(zip(inquiries, answers, strict=True))

    def _absence(self, inquiry: Inquiry) -> str:
        """Say why no token of an inquiry looks."""
        if self.source.is_answer:
            return "expected an answer whose tokens look, found an empty one"
        return f"expected the word {self.source.name!r} in it, found {inquiry.text!r}"

    def _batches(
        self, texts: Mapping[Inquiry, QueryText], sample: Sample
    ) -> Iterator[list[Inquiry]]:
        """Yield inquiries whose texts have equal numbers of tokens and of queries, as many as
        memory allows.
        """
        # Texts of equal length need no padding, whose positions would shift the queries.
        groups: dict[tuple[int, int], list[Inquiry]] = {}
        for inquiry, text in texts.items():
            groups.setdefault((text.n_tokens, len(text.queries)), []).append(inquiry)
        geometry = self.run.config.model.geometry
        # Memory bounds a batch twice: by its copies of the image's cache, and by its maps.
        n_heads = len(self.layers) * geometry.q_heads
        n_numbers = 2 * geometry.layers * geometry.kv_heads * geometry.head_dim
        # Four bytes a number is the most, whatever the model's precision.
        copies = COPIES_BYTES // (4 * n_numbers * (sample.image_start + sample.n_tokens))
        for (_, n_queries), members in groups.items():
            maps = MAPS_BYTES // (4 * n_heads * n_queries * sample.n_tokens)
            size = max(1, min(TOGETHER, copies, maps))
            for start in range(0, len(members), size):
                yield members[start : start + size]

    def _attended(
        self,
        batch: Sequence[Inquiry],
        texts: Mapping[Inquiry, QueryText],
        cache: Any,
        sample: Sample,
        answers: Mapping[Inquiry, str | None],
    ) -> Iterator[Look]:
        """Run the texts of a batch after the image."""
        from kvtool.models.attention import image_attention
        from kvtool.models.cache import widened

        # One image's cache stands for all rows of the batch: the image is not run again.
        batch_texts = [texts[inquiry] for inquiry in batch]
        attention = image_attention(
            self.model,
            widened(cache, len(batch)),
            [sample] * len(batch),
            [text.text for text in batch_texts],
            [text.queries for text in batch_texts],
            self.layers,
        ).numpy()
        for inquiry, text, maps in zip(batch, batch_texts, attention, strict=True):
            yield Look(inquiry, sample, maps, text.words, answers.get(inquiry) or "")


def attended_layers(run: Run, choice: LayerChoice | None) -> tuple[int, ...]:
    """Return the layers of a choice whose attention can be watched, by default all: those that have
    keys of their own. Raises UsageError for others, and where the run lacks its caches.
    """
    check_attendable(run)
    geometry = run.config.model.geometry
    layers = resolve_layers(choice, geometry.layers)
    # Layers that share an earlier one's keys have none to look at: a choice by name skips them.
    if layers is None or isinstance(choice, str):
        return geometry.cached(layers or range(geometry.layers))
    # Layers that are named must all have keys: leaving some out would not be what was asked.
    if absent := sorted(set(layers) - set(geometry.cached_layers)):
        raise UsageError(
            f"layers: {geometry.without_cache(absent[0])}: expected some of "
            f"{', '.join(map(str, geometry.cached_layers))}"
        )
    return layers


def check_attendable(run: Run) -> None:
    """Raise UsageError where a run lacks the caches that texts can look at."""
    config = run.config
    depth = config.model.geometry.layers
    if not depth:
        raise UsageError(
            f"run {run.name}: expected a run of a language model, found one of "
            f"{config.model.name}, an encoder alone, whose pictures no text looks at"
        )
    if not is_whole(config):
        kinds = ",".join(cache_kinds(config.model.geometry))
        raise UsageError(
            f"run {run.name}: expected keys and values of all {depth} layers, found "
            f"{', '.join(config.kinds)} of {len(config.layers)}: extract anew without --layers and "
            f"with --kinds {kinds}"
        )
