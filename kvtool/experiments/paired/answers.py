"""What the model answers to questions over one or several pictures, stored as soon as it is
answered.

Answers are stored under the run's model, the pictures and the question's text, so that an
interrupted command goes on with the rest. The weights are loaded for the first question that is
new.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvtool import schema
from kvtool.asking.answering import Answer, Answerer
from kvtool.asking.caches import cache_kinds, is_whole, spoiled_arrays
from kvtool.datasets.base import ImageRef, Question
from kvtool.datasets.images import load_image
from kvtool.errors import UsageError
from kvtool.experiments.paired.points import PointQuestion
from kvtool.models.families import adds_features, pads_several
from kvtool.progress import Progress
from kvtool.store import Run, hash_json
from kvtool.store.shares import chunk_name

if TYPE_CHECKING:
    from kvtool.models.base import Prepared

PADDED = "padded"
"""How pictures among several enter a prompt where the model's processor pads them."""
AT_ONCE = 16
"""Questions over several images that are claimed and asked together."""


@dataclass(frozen=True)
class AnswerPrompt:
    """A question over several pictures.

    `key` identifies the pictures; `prepare` makes them ready for the loaded model, or returns None
    where what is stored of one is not finite.
    """

    key: Any
    text: str
    prepare: Callable[[], list[Prepared] | None]


@dataclass(frozen=True)
class OneAnswer:
    """The stored record of a prompt."""

    answer: Answer

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> OneAnswer:
        """Read a stored record. Raises CorruptError."""
        return schema.read(cls, record, "answer")


def ask_one_image(
    answerer: Answerer, questions: Sequence[Question], progress: Progress
) -> list[Answer]:
    """Return answers that go on from the stored caches of the questions' single images.

    Raises UsageError where the run holds no whole caches.
    """
    config = answerer.run.config
    if not is_whole(config):
        kinds = ",".join(cache_kinds(config.model.geometry))
        raise UsageError(
            f"run {answerer.run.name}: expected keys and values of every layer, to ask about its "
            f"images, found {', '.join(config.kinds)} of {len(config.layers)} layers; extract them "
            f"with --kinds {kinds}"
        )
    texts: dict[str, list[str]] = {}
    for question in questions:
        texts.setdefault(question.image_ids[0], []).append(question.prompt)
    # Asked as a knockout's condition with no head blocked, so that both commands share the answers.
    plain = frozenset[tuple[int, int]]()
    answers = answerer.ask(texts, [plain], progress)[plain]
    return [answers[question.image_ids[0]][question.prompt] for question in questions]


def ask_several_images(
    answerer: Answerer, prompts: Sequence[AnswerPrompt], progress: Progress
) -> list[Answer]:
    """Return answers in the order of the prompts, AT_ONCE of them at a time.

    Raises BusyError where other processes still hold some; see Share.each.
    """
    keys = [hash_json([answerer.key, prompt.key, prompt.text]) for prompt in prompts]
    answers: dict[str, Answer] = {}
    distinct = list(dict(zip(keys, prompts, strict=True)).items())
    # Chunks do not depend on what is stored, so that all processes claim the same ones.
    chunks = [dict(distinct[start : start + AT_ONCE]) for start in range(0, len(distinct), AT_ONCE)]

    def ask(chunk: dict[str, AnswerPrompt]) -> None:
        """Ask one chunk."""

        def stored() -> dict[str, Answer] | None:
            """Return the chunk's stored answers where all are there."""
            replies = _kept(answerer, chunk)
            return replies if replies.keys() == chunk.keys() else None

        name = chunk_name("answers", "", hash_json(list(chunk)))
        answers.update(
            answerer.share.once(answerer.run, name, stored, lambda: _ask_rest(answerer, chunk))
        )
        progress(len(chunk), "answers")

    answerer.share.each(chunks, ask, f"chunks of {AT_ONCE} questions")
    return [answers[key] for key in keys]


def _kept(answerer: Answerer, chunk: Mapping[str, AnswerPrompt]) -> dict[str, Answer]:
    """Return the stored answers, by key; none where all are asked again."""
    records = (
        {}
        if answerer.fresh
        else {key: answerer.store.kept(key, OneAnswer.from_json) for key in chunk}
    )
    return {key: record.answer for key, record in records.items() if record is not None}


def _ask_rest(answerer: Answerer, chunk: Mapping[str, AnswerPrompt]) -> dict[str, Answer]:
    """Return answers by key; those that are not stored are asked together, and stored one by
    one."""
    stored = _kept(answerer, chunk)
    todo = {key: prompt for key, prompt in chunk.items() if key not in stored}
    prepared = {key: prompt.prepare() for key, prompt in todo.items()}
    images = {key: pictures for key, pictures in prepared.items() if pictures is not None}
    texts = [todo[key].text for key in images]
    replies: dict[str, Answer] = dict.fromkeys(todo)
    if images:
        answers = answerer.loaded.ask_several(list(images.values()), texts, answerer.max_new_tokens)
        replies |= zip(images, answers, strict=True)
    # What was not asked is not stored: its pictures may be extracted anew, and then have an answer.
    for key, answer in ((key, replies[key]) for key in images):
        labels = {
            "run": answerer.run.name,
            "pictures": todo[key].key,
            "max_new_tokens": answerer.max_new_tokens,
        }
        answerer.store.keep(
            key, {"kind": "answer", **labels, "text": todo[key].text, "answer": answer}
        )
    return stored | replies


def stored_prompt(
    answerer: Answerer, question: Question, refs: Mapping[str, ImageRef]
) -> AnswerPrompt:
    """Return the prompt of a question over pictures of the run.

    They are restored from what the run holds of them before the decoder, or else read as pixels;
    read, too, where the model's processor pads them among others.
    """
    is_padded = pads_pictures(answerer.run, question)

    def prepare() -> list[Prepared] | None:
        """Prepare the question's pictures."""
        prepared = [_prepared(answerer, image, refs, is_padded) for image in question.image_ids]
        finite = [picture for picture in prepared if picture is not None]
        return finite if len(finite) == len(prepared) else None

    pictures = [[image, answerer.samples[image].digest] for image in question.image_ids]
    key = [PADDED, pictures] if is_padded else pictures
    return AnswerPrompt(key, question.prompt, prepare)


def pads_pictures(run: Run, question: Question) -> bool:
    """Return whether one of a question's pictures, of several, enters the prompt padded."""
    sizes = [run.image(image).sample.image_wh_px for image in question.image_ids]
    family = run.config.model.family
    return len(sizes) > 1 and any(pads_several(family, image_wh_px) for image_wh_px in sizes)


def _prepared(
    answerer: Answerer, image: str, refs: Mapping[str, ImageRef], is_padded: bool
) -> Prepared | None:
    """Return an image as the model takes it; None where what is stored of it is not finite."""
    run = answerer.run
    model = answerer.loaded
    sample = answerer.samples[image]
    if is_padded and pads_several(run.config.model.family, sample.image_wh_px):
        return model.prepare_several(load_image(refs[image]), id=image, index=sample.index)
    if "projected" in run.config.kinds and not adds_features(run.config.model.family):
        arrays = run.read_image(image, ["projected"], raw=True)
        return None if spoiled_arrays(arrays) else model.prepare_stored(sample, arrays)
    return model.prepare(
        load_image(refs[image]), id=image, index=sample.index, view=run.config.picture_view
    )


def marked_prompt(
    answerer: Answerer, point: PointQuestion, text: str, folder: Path
) -> AnswerPrompt:
    """Return the prompt of a question over its two marked pictures, which lie in a folder."""

    def prepare() -> list[Prepared]:
        """Prepare the marked pictures."""
        refs = [ImageRef(file, folder / file) for file in point.files]
        model = answerer.loaded
        view = answerer.run.config.picture_view
        return [
            model.prepare_several(load_image(ref), id=ref.id, index=index, view=view)
            for index, ref in enumerate(refs)
        ]

    # An answer is kept under all that it depends on: where the files lie is not among it.
    record = {name: value for name, value in point.record().items() if name != "files"}
    if pads_pictures(answerer.run, point.question):
        record["several_images"] = PADDED
    record["digests"] = [answerer.samples[image].digest for image in point.question.image_ids]
    return AnswerPrompt(record, text, prepare)
