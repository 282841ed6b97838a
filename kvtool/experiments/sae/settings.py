"""What a study is asked for; no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kvtool.autoencoders.descriptions import Descriptions, read_descriptions
from kvtool.demo.weights import DEMO, demo_saes_path
from kvtool.digests import digest_files, digest_texts
from kvtool.errors import UsageError
from kvtool.experiments.sae.subject import Tokens
from kvtool.models.hub import resolve

MatchBy = Literal["lexical", "embedding", "judge"]
LINES = 10
"""So many reasons are listed."""


@dataclass(frozen=True)
class Filters:
    """Which features are dense, as in kvtool.sae."""

    max_presence: float
    max_density: float


@dataclass(frozen=True)
class DescribedBy:
    """How descriptions are compared, as in kvtool.sae.

    Attributes:
        path: Of the descriptions; None for none.
        match_by: Words in common, the cosine of embeddings, or a judge.
        embedder: What embeds texts; None for the run's own language model.
        judge: The language model that judges.
        judge_jsonl: A file of questions and answers, in its position.
    """

    path: str | Path | None = None
    match_by: MatchBy = "lexical"
    embedder: str | None = None
    judge: str | None = None
    judge_jsonl: str | Path | None = None

    def __post_init__(self) -> None:
        if self.path is None and (self.embedder or self.judge or self.judge_jsonl):
            raise UsageError("sae: expected descriptions to compare with captions, found none")
        if self.match_by == "judge" and (self.judge is None) == (self.judge_jsonl is None):
            raise UsageError("sae: match_by judge: expected either judge or judge_jsonl")

    def read(self) -> Descriptions:
        """Return the descriptions, which are none without a path."""
        return Descriptions() if self.path is None else read_descriptions(self.path)

    def settings(self, descriptions: Descriptions) -> dict[str, Any]:
        """Return what the comparison depends on: texts and models by what they hold, whatever they
        are called and wherever they lie. Raises ModelError where a model is not there."""
        if self.path is None:
            return {"descriptions_hash": None}
        # Sorted, so that the order of files changes no key.
        texts = sorted(
            (layer, feature, text)
            for layer, features in descriptions.items()
            for feature, text in features.items()
        )
        answers = [] if self.judge_jsonl is None else digest_files([self.judge_jsonl]).values()
        return {
            "descriptions_hash": digest_texts(str(item) for item in texts),
            "match_by": self.match_by,
            "embedder_revision": _revision(self.embedder if self.match_by == "embedding" else None),
            "judge_revision": _revision(self.judge if self.match_by == "judge" else None),
            "answers_hash": list(answers),
        }

    def names(self) -> dict[str, str | None]:
        """Return what descriptions and models are called, without the folders they lie in; the
        descriptions of the shipped SAEs are called demo, as these are.
        """
        name = None
        if self.path is not None:
            path = Path(self.path).expanduser().absolute()
            name = DEMO if path.parent == demo_saes_path() else path.name
        return {
            "descriptions": name,
            "embedder": _model_name(self.embedder),
            "judge": _model_name(self.judge),
        }

    def labeled(self, message: str) -> str:
        """Return a message without the folders that descriptions and answers lie in."""
        for path in (self.path, self.judge_jsonl):
            folder = None if path is None else Path(path).expanduser().parent
            if folder is not None and folder.name:
                message = message.replace(f"{folder}/", "")
        return message


def _revision(model: str | None) -> str | None:
    """Return what a model's weights and settings are known by."""
    return None if model is None else resolve(model).revision


def _model_name(model: str | None) -> str | None:
    """Return a model's name; of a folder its last part."""
    if model is None:
        return None
    folder = Path(model).expanduser()
    return folder.absolute().name if folder.is_dir() else model


@dataclass(frozen=True)
class StudySettings:
    """What a study was asked for, as in kvtool.sae."""

    tokens: Tokens
    conditions: tuple[str, ...]
    filters: Filters
    outlier: float
    limit: int | None
    seed: int
    described_by: DescribedBy
    splice: bool
