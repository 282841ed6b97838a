"""Descriptions of features, compared with the captions of the images where they are strongest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from kvtool.autoencoders.described import (
    Described,
    by_embedding,
    by_judge,
    described_features,
    descriptions_of,
    lexical,
)
from kvtool.autoencoders.descriptions import Descriptions
from kvtool.autoencoders.judge import FileJudge, LanguageJudge
from kvtool.autoencoders.matching import MIN_FEATURES, top_features
from kvtool.experiments.sae.settings import DescribedBy
from kvtool.models.language import Language, load_language
from kvtool.models.sentences import load_embedder, mean_states
from kvtool.result import Row
from kvtool.stats.bootstrap import Array

Compare = Callable[[Sequence[Sequence[str]], Sequence[Sequence[str]]], Described]


@dataclass
class Describing:
    """Compares the descriptions of features with captions.

    Attributes:
        descriptions: By layer and feature.
        compare: One of the measures of kvtool.autoencoders.described.
        file: The questions for a judge outside, where there is one.
    """

    descriptions: Descriptions
    compare: Compare
    file: FileJudge | None = None

    def of_layer(self, layer: int) -> Mapping[int, str]:
        """Return the descriptions of a layer's features."""
        return self.descriptions.get(layer, {})

    def fields(
        self, layer: int, pooled: Array, eligible: Array, captions: Sequence[Sequence[str]]
    ) -> Row:
        """Return how often one of the descriptions of an image's strongest features fits it.

        Args:
            layer: Of the SAE.
            pooled: Each feature of each image, (image, m).
            eligible: Features that are not dense, (m,) bool.
            captions: Of each image.
        """
        texts = self.of_layer(layer)
        # A feature without a description could not be compared, a dense one says little.
        ranked = eligible & described_features(len(eligible), texts)
        if ranked.sum() < MIN_FEATURES:
            return {}
        described = self.compare(descriptions_of(top_features(pooled, ranked), texts), captions)
        return {
            "described": described.rate,
            "described_low": described.low,
            "described_high": described.high,
            "described_chance": described.chance,
        }

    def finish(self) -> list[str]:
        """Write the questions that a judge outside has to answer, and say so; a line each."""
        if self.file is None:
            return []
        count = self.file.write()
        lines = list(self.file.skipped)
        if count:
            lines.append(f"{count} questions are in {self.file.path}: answer them and run again")
        return lines


def make_describing(
    by: DescribedBy, descriptions: Descriptions, language: Language, device: str, seed: int
) -> Describing:
    """Return what compares descriptions with captions. Raises ModelError where a model that is to
    embed or judge is not there."""
    if by.match_by == "embedding":
        embed = (
            partial(mean_states, language)
            if by.embedder is None
            else load_embedder(by.embedder, device=device)
        )
        return Describing(descriptions, partial(by_embedding, embed=embed, seed=seed))
    if by.match_by == "judge" and by.judge_jsonl is not None:
        file = FileJudge(by.judge_jsonl)
        return Describing(descriptions, partial(by_judge, judge=file, seed=seed), file)
    if by.match_by == "judge" and by.judge is not None:
        judge = LanguageJudge(load_language(by.judge, device=device))
        return Describing(descriptions, partial(by_judge, judge=judge, seed=seed))
    return Describing(descriptions, partial(lexical, seed=seed))
