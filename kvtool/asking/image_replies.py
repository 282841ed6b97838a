"""Replies to questions about a run's images, stored image by image as soon as they are there.

The replies about an image lie in one result of the store, so that whatever was asked before is
never asked again: an interrupted benchmark goes on at the next image, and a further condition runs
alone. A process that asks about an image holds its claim meanwhile, so that several processes share
the images, and none writes over the replies of another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from kvtool.asking.caches import cache_kinds, spoiled_arrays
from kvtool.asking.heads import Change
from kvtool.asking.means import RunMeans, run_means
from kvtool.features.attention_maps import count_sinks
from kvtool.models.methods import BLOCK, Intervention, Method
from kvtool.progress import Progress
from kvtool.result import result_key
from kvtool.store import Run, Store, hash_json
from kvtool.store.provenance import ALGORITHMS
from kvtool.store.shares import Share, chunk_name
from kvtool.types import Precision, Sample

if TYPE_CHECKING:
    from kvtool.models.base import LanguageModel
    from kvtool.models.intervention import Intervened

ATTENTION = "sdpa"
"""What a knockout leaves as it is runs on this backend, and the unblocked condition with it."""
Texts = Mapping[str, Sequence[str]]
"""Questions by image id."""
Reply = TypeVar("Reply")
ReplyTable = dict[Change, dict[str, dict[str, Reply | None]]]
"""Replies by what is done, image and text; None where the model could give none: its logits, or the
stored cache, are not all finite."""
Records = dict[str, dict[str, Reply | None]]
"""Replies about an image by what is done, see change_key, and text."""


@dataclass
class ImageReplies(Generic[Reply]):
    """Asks about a run's images, or reads from the store what was asked before.

    Args:
        model: the place of the run's model, if its name does not say it; the weights are loaded for
            the first new question.
        fresh: whether everything is asked again.
        beside: one over another run of the same model, whose weights serve here too.
        share: the questions of which this process takes a part, where several are at work.
        answers: the replies that were read or computed, so that nothing is asked twice, even where
            everything is to be asked again.
        dtype: the precision in which questions are answered, by default the run's.
    """

    store: Store
    run: Run
    model: str | None
    device: str
    max_new_tokens: int
    fresh: bool = False
    beside: ImageReplies[Any] | None = None
    share: Share = field(default_factory=Share)
    answers: ReplyTable[Reply] = field(default_factory=dict)
    dtype: Precision | None = None
    kind: ClassVar[str] = "answers"
    """What a stored record of replies is called."""

    @classmethod
    def read(cls, record: dict[str, Any]) -> Records[Reply]:
        """Return the replies of a stored record. Raises CorruptError."""
        raise NotImplementedError

    def replies(
        self, intervened: Intervened, cache: Any, texts: Sequence[str]
    ) -> Sequence[Reply | None]:
        """Return the replies to texts about one image, whose cache stays as it was."""
        raise NotImplementedError

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
        """The key of all that a reply depends on but image, text and what is done."""
        settings = [ALGORITHMS["answers"], self.run.config.hash, ATTENTION, self.max_new_tokens]
        if self.dtype not in (None, self.run.config.model.dtype):
            settings.append(self.dtype)
        return result_key(settings)

    @cached_property
    def samples(self) -> dict[str, Sample]:
        """The run's samples by image id."""
        return {sample.id: sample for sample in self.run.samples}

    @cached_property
    def means(self) -> RunMeans:
        """The mean key and value of the run's image tokens. Raises BusyError."""
        return run_means(self.run, self.loaded, self.share.part)

    def ask(self, texts: Texts, sets: Sequence[Change], progress: Progress) -> ReplyTable[Reply]:
        """Return replies by what is done, image and text.

        Each image's replies are stored before the next image's turn. Raises BusyError where other
        processes still hold some images; see Share.each.
        """
        answers = {change: self.answers.setdefault(change, {}) for change in sets}

        def ask(image: str) -> None:
            """Ask about one image what is not yet answered."""
            # An image is loaded once, if any of its questions is new under any of the conditions.
            questions = dict.fromkeys(texts[image])
            if any(
                questions.keys() - by_image.get(image, {}).keys() for by_image in answers.values()
            ):
                for change, new_answers in self.ask_image(image, tuple(questions), sets).items():
                    answers[change].setdefault(image, {}).update(new_answers)
            progress(1, image)

        self.share.each(texts, ask, "images")
        return answers

    def ask_image(
        self, image: str, texts: Sequence[str], sets: Sequence[Change]
    ) -> dict[Change, dict[str, Reply | None]]:
        """Return the replies about one image, as ask does. Raises BusyError where another process
        asks about it now."""
        # The digest is part of the key: a picture that changed under its id is asked anew.
        key = hash_json([self.key, image, self.samples[image].digest])

        # Where every question has a reply, the store's serve and no model is loaded.
        def stored() -> Records[Reply] | None:
            """Return the stored replies where every question has one."""
            records = self._known(key)
            return None if any(self._lacking(records, texts, sets).values()) else records

        def generate() -> Records[Reply]:
            """Compute the replies that lack, and store them beside the others."""
            # Read them again under the claim: another process may have added some meanwhile.
            records = self._known(key)
            answers = self._generate(image, self._lacking(records, texts, sets))
            # Nothing is stored of a spoiled cache: it may be extracted anew, and then has replies.
            if not answers:
                return records
            for change, replies in answers.items():
                records.setdefault(self._change_key(change), {}).update(replies)
            labels = {"run": self.run.name, "image": image, "max_new_tokens": self.max_new_tokens}
            self.store.keep(key, {"kind": self.kind, **labels, "answers": records})
            return records

        records = self.share.once(self.run, chunk_name(self.kind, image, key), stored, generate)
        return {
            change: {text: records.get(self._change_key(change), {}).get(text) for text in texts}
            for change in sets
        }

    def _known(self, key: str) -> Records[Reply]:
        """Return an image's stored replies; none where they are damaged."""
        return self.store.kept(key, self.read) or {}

    def _lacking(
        self, records: Records[Reply], texts: Sequence[str], sets: Sequence[Change]
    ) -> dict[Change, list[str]]:
        """Return the questions to ask under each of what is done."""
        questions = {}
        for change in sets:
            answers = records.get(self._change_key(change), {})
            questions[change] = [text for text in texts if self.fresh or text not in answers]
        return questions

    def _change_key(self, change: Change) -> str:
        """Return the name of what is done among an image's replies."""
        needs_means = isinstance(change, Intervention) and change.needs_means
        return change_key(change, self.run.images_hash() if needs_means else "")

    def _generate(
        self, image: str, todo: Mapping[Change, Sequence[str]]
    ) -> dict[Change, dict[str, Reply | None]]:
        """Ask the image's cache, read once, under each of what is done.

        There are no replies where the cache is not finite.
        """
        kinds = cache_kinds(self.run.config.model.geometry)
        arrays = self.run.read_image(image, kinds, raw=True)
        # Nothing can be said from a cache with a value that is not finite.
        if spoiled_arrays(arrays):
            return {}
        sample = self.samples[image]
        # One cache serves everything that is done: each reply leaves it as it was.
        cache = self.loaded.restore([sample], [arrays], self.run.config.keys)
        answers = {}
        # Hooks for a change are set up once for all of its questions.
        for change, texts in todo.items():
            replies = self.replies(self._intervened(sample, change), cache, texts) if texts else ()
            answers[change] = dict(zip(texts, replies, strict=True))
        return answers

    def _intervened(self, sample: Sample, change: Change) -> Intervened:
        """Return the model as it is asked about an image under what is done."""
        from kvtool.models.intervention import Intervened

        done = change if isinstance(change, Intervention) else Intervention(Method(BLOCK), change)
        means = self.means.of(done.method.name) if done.needs_means else None
        return Intervened(self.loaded, sample, done, count_sinks(sample.n_tokens), means)


def change_key(change: Change, images: str = "") -> str:
    """Return the name of what is done among an image's replies: of blocked heads a hash of them.

    images: the digest of the pictures whose means are taken, where some are.
    """
    if not isinstance(change, Intervention):
        return hash_json(sorted(change))
    settings = [ALGORITHMS["intervention"], change.method.label, sorted(change.heads), images]
    return hash_json(settings)
