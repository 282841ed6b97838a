"""Questions answered from the store: every image's answers are stored as soon as they are
generated.

The answers about an image lie in one result of the store, so that whatever was asked before is
never asked again: an interrupted benchmark goes on at the next image, and a further condition runs
alone. A process that asks about an image holds its claim meanwhile, so that several processes share
the images, and none writes over the answers of another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kvtool import schema
from kvtool.asking.caches import cache_kinds, spoiled_arrays
from kvtool.asking.heads import Heads
from kvtool.progress import Progress
from kvtool.result import result_key
from kvtool.store import Run, Store, hash_json
from kvtool.store.provenance import ALGORITHMS
from kvtool.store.shares import Share, chunk_name
from kvtool.types import Precision, Sample

if TYPE_CHECKING:
    from kvtool.models.base import LanguageModel

ATTENTION = "sdpa"
"""What a knockout leaves as it is runs on this backend, and the unblocked condition with it."""
Texts = Mapping[str, Sequence[str]]
"""Questions by image id."""
Answer = str | None
"""What the model said; None where it could not: its logits, or the stored cache, are not all
finite."""
AnswerTable = dict[Heads, dict[str, dict[str, Answer]]]
"""Answers by heads blocked, image and text."""
Records = dict[str, dict[str, Answer]]
"""Answers about an image by heads_key and text."""


@dataclass(frozen=True)
class ImageAnswers:
    """The stored record of an image: its answers by heads_key and text."""

    answers: Records

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> ImageAnswers:
        """Read a stored record. Raises CorruptError."""
        return schema.read(cls, record, "answers")


@dataclass
class Answerer:
    """Answers questions about a run's images, from the store where they were asked before.

    Args:
        model: the place of the run's model, if its name does not say it; the weights are loaded for
            the first new question.
        fresh: whether everything is asked again.
        beside: an answerer over another run of the same model, whose weights serve here too.
        share: the questions of which this process takes a part, where several are at work.
        answers: what this answerer has read or generated, so that it asks nothing twice, even where
            everything is to be asked again.
        dtype: the precision in which questions are answered, by default the run's.
    """

    store: Store
    run: Run
    model: str | None
    device: str
    max_new_tokens: int
    fresh: bool = False
    beside: Answerer | None = None
    share: Share = field(default_factory=Share)
    answers: AnswerTable = field(default_factory=dict)
    dtype: Precision | None = None

    @cached_property
    def loaded(self) -> LanguageModel:
        """The run's model. Raises ModelError where it is not the one that the run was extracted
        with."""
        if self.beside is not None:
            return self.beside.loaded
        from kvtool.engine.run_model import load_run_model

        return load_run_model(
            self.run, self.model, self.device, dtype=self.dtype, attention=ATTENTION
        )

    @cached_property
    def key(self) -> str:
        """The key of all that an answer depends on but image, text and heads."""
        settings = [ALGORITHMS["answers"], self.run.config.hash, ATTENTION, self.max_new_tokens]
        if self.dtype not in (None, self.run.config.model.dtype):
            settings.append(self.dtype)
        return result_key(settings)

    @cached_property
    def samples(self) -> dict[str, Sample]:
        """The run's samples by image id."""
        return {sample.id: sample for sample in self.run.samples}

    def ask(self, texts: Texts, sets: Sequence[Heads], progress: Progress) -> AnswerTable:
        """Answer questions by heads blocked, image and text.

        Each image's answers are stored before the next image's turn. Raises BusyError where other
        processes still hold some images; see Share.each.
        """
        answers = {heads: self.answers.setdefault(heads, {}) for heads in sets}

        def ask(image: str) -> None:
            """Ask about one image what is not yet answered."""
            # An image is loaded once, if any of its questions is new under any of the conditions.
            questions = dict.fromkeys(texts[image])
            if any(
                questions.keys() - by_image.get(image, {}).keys() for by_image in answers.values()
            ):
                for heads, new_answers in self.ask_image(image, tuple(questions), sets).items():
                    answers[heads].setdefault(image, {}).update(new_answers)
            progress(1, image)

        self.share.each(texts, ask, "images")
        return answers

    def ask_image(
        self, image: str, texts: Sequence[str], sets: Sequence[Heads]
    ) -> dict[Heads, dict[str, Answer]]:
        """Answer the questions about one image, as ask does. Raises BusyError where another process
        asks about it now."""
        key = hash_json([self.key, image, self.samples[image].digest])

        # Where every question has an answer, the store's serve and no model is loaded.
        def stored() -> Records | None:
            """Return the stored answers where every question has one."""
            records = self._known(key)
            return None if any(self._lacking(records, texts, sets).values()) else records

        def generate() -> Records:
            """Generate the answers that lack, and store them beside the others."""
            # Read them again under the claim: another process may have added answers meanwhile.
            records = self._known(key)
            answers = self._generate(image, self._lacking(records, texts, sets))
            # Nothing is stored of a spoiled cache: it may be extracted anew, and then has answers.
            if not answers:
                return records
            for heads, replies in answers.items():
                records.setdefault(heads_key(heads), {}).update(replies)
            labels = {"run": self.run.name, "image": image, "max_new_tokens": self.max_new_tokens}
            self.store.keep(key, {"kind": "answers", **labels, "answers": records})
            return records

        records = self.share.once(self.run, chunk_name("answers", image, key), stored, generate)
        return {
            heads: {text: records.get(heads_key(heads), {}).get(text) for text in texts}
            for heads in sets
        }

    def _known(self, key: str) -> Records:
        """Return an image's stored answers; none where they are damaged."""
        record = self.store.kept(key, ImageAnswers.from_json)
        return {} if record is None else record.answers

    def _lacking(
        self, records: Records, texts: Sequence[str], sets: Sequence[Heads]
    ) -> dict[Heads, list[str]]:
        """Return the questions to ask under each set of blocked heads."""
        questions = {}
        for heads in sets:
            answers = records.get(heads_key(heads), {})
            questions[heads] = [text for text in texts if self.fresh or text not in answers]
        return questions

    def _generate(
        self, image: str, todo: Mapping[Heads, Sequence[str]]
    ) -> dict[Heads, dict[str, Answer]]:
        """Ask the image's cache, read once, under each set of blocked heads.

        There are no answers where the cache is not finite.
        """
        from kvtool.models.knockout import knocked_out

        kinds = cache_kinds(self.run.config.model.geometry)
        arrays = self.run.read_image(image, kinds, raw=True)
        if spoiled_arrays(arrays):
            return {}
        model = self.loaded
        sample = self.samples[image]
        # One cache serves every set of heads: each answer leaves it as it was.
        cache = model.restore([sample], [arrays], self.run.config.keys)
        answers = {}
        for heads, texts in todo.items():
            with knocked_out(model, [sample], heads):
                replies = model.ask(
                    cache, sample, [model.question(text) for text in texts], self.max_new_tokens
                )
            answers[heads] = dict(zip(texts, replies, strict=True))
        return answers


def heads_key(heads: Heads) -> str:
    """Return the name of a set of blocked heads among an image's answers."""
    return hash_json(sorted(heads))
