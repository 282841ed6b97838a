"""What the model answers to questions over one or several pictures, stored as soon as it is
answered.

Answers are stored under the run's model, the pictures and the question's text, so that an
interrupted command goes on with the rest. The weights are loaded for the first question that is
new.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kvtool.asking.answering import Answer, Answerer
from kvtool.asking.caches import CACHE, cache_kinds, is_whole, spoiled_arrays
from kvtool.asking.paired.points import PointQuestion
from kvtool.asking.paired.readings import letter
from kvtool.asking.paired.replies import AnswerPrompt, OptionScores, PromptAnswers
from kvtool.datasets.base import ImageRef, Question
from kvtool.datasets.images import load_image
from kvtool.errors import UsageError
from kvtool.models.families import adds_features, pads_several
from kvtool.progress import Progress
from kvtool.store import Run
from kvtool.types import Sample

if TYPE_CHECKING:
    from kvtool.models.base import Prepared

PADDED = "padded"
"""How pictures among several enter a prompt where the model's processor pads them."""


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
    # The questions of an image are asked from one cache.
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
    """Return answers in the order of the prompts. Raises BusyError, see Replies.ask."""
    return PromptAnswers(answerer).ask(prompts, progress)


def score_options(
    answerer: Answerer, prompts: Sequence[AnswerPrompt], progress: Progress
) -> list[list[float] | None]:
    """Return the log-probability of each prompt's options, in the order of the prompts.

    They are None where they are not finite. Raises BusyError, see Replies.ask.
    """
    return OptionScores(answerer).ask(prompts, progress)


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
        # A prompt may begin with the first picture's stored cache instead of its run.
        if prepared[0] is not None and begins_prompt(answerer, prepared[0].sample):
            prepared[0] = _begun(answerer.run, prepared[0])
        # One spoiled picture spoils the prompt: it is not asked.
        finite = [picture for picture in prepared if picture is not None]
        return finite if len(finite) == len(prepared) else None

    # Digests in the key: pictures that changed under their ids are asked anew.
    pictures = [[image, answerer.samples[image].digest] for image in question.image_ids]
    key = [PADDED, pictures] if is_padded else pictures
    return AnswerPrompt(key, question.prompt, prepare, option_letters(question))


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
    # Among others a picture is padded to a common size: stored vectors are of the picture alone.
    if is_padded and pads_several(run.config.model.family, sample.image_wh_px):
        return model.prepare_several(load_image(refs[image]), id=image, index=sample.index)
    # Stored image vectors spare the vision tower, where the decoder takes nothing else from it.
    if "projected" in run.config.kinds and not adds_features(run.config.model.family):
        arrays = run.read_image(image, ["projected"], raw=True)
        return None if spoiled_arrays(arrays) else model.prepare_stored(sample, arrays)
    return model.prepare(
        load_image(refs[image]), id=image, index=sample.index, view=run.config.picture_view
    )


def begins_prompt(answerer: Answerer, sample: Sample) -> bool:
    """Return whether a prompt of several pictures begins with what the run stores of its first.

    It does where that is what the model would compute, and where computing it takes longer than
    reading it: not on a GPU.
    """
    from kvtool.models.device import chosen_device

    config = answerer.run.config
    return (
        is_whole(config)
        and not config.model.geometry.recurrent
        and not pads_several(config.model.family, sample.image_wh_px)
        and config.keys == "post-rope"
        and config.model.dtype == answerer.loaded.info.dtype
        and chosen_device(answerer.device).type == "cpu"
    )


def _begun(run: Run, item: Prepared) -> Prepared | None:
    """Return an image with its stored keys and values; None where some are not finite."""
    arrays = run.read_image(item.sample.id, CACHE, raw=True)
    return None if spoiled_arrays(arrays) else replace(item, stored=arrays)


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
    return AnswerPrompt(record, text, prepare, option_letters(point.question))


def option_letters(question: Question) -> tuple[str, ...]:
    """Return the letters in brackets by which a question's choices are named: (A), (B)."""
    return tuple(map(letter, range(len(question.choices))))
