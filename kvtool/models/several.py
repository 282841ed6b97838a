"""Questions over several images: their prompt up to the last image as one cache, then on from it as
from one image's.

A prompt is [text][image][text][image] ... [question], from the chat template's turn of that many
images. An image's tokens are the decoder's input, whatever stands before them, so that a run's
stored arrays serve as well as pixels.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL import Image

from kvtool.errors import KvtoolError, UsageError
from kvtool.models.base import BeforeDecoder, Prepared
from kvtool.models.continuation import Continuation
from kvtool.models.device import to_device
from kvtool.types import Sample, View

PROMPT_TOKENS = 16_384
"""Image and question tokens that run at a time: at least one prompt, at most as many as stay within
this.
"""


class SeveralImages(Continuation):
    """The part of a decoder family that asks over several images.

    See kvtool.models.base.LanguageModel.
    """

    def prepare(
        self, image: Image.Image, *, id: str, index: int, prefix: str = "", view: View = "base"
    ) -> Prepared:
        """See Model.prepare."""
        raise NotImplementedError

    def prepare_several(
        self, image: Image.Image, *, id: str, index: int, view: View = "base"
    ) -> Prepared:
        """See LanguageModel.prepare_several."""
        return self.prepare(image, id=id, index=index, view=view)

    def ask_several(
        self, images: Sequence[Sequence[Prepared]], texts: Sequence[str], max_new_tokens: int = 32
    ) -> list[str | None]:
        """See LanguageModel.ask_several."""
        _check(images, texts)
        question_texts = [
            self.prompt.question(text, len(items))
            for items, text in zip(images, texts, strict=True)
        ]
        lengths = [len(self.prompt.text_ids(text)) for text in question_texts]
        answers: list[str | None] = [None] * len(question_texts)
        # Questions whose images and texts are of equal shapes run together: nothing is padded.
        for group_rows in _grouped(
            [(*map(_shape, items), n) for items, n in zip(images, lengths, strict=True)]
        ):
            n_tokens = (
                sum(item.sample.n_tokens for item in images[group_rows[0]]) + lengths[group_rows[0]]
            )
            # So many prompts at a time that their tokens stay within the bound, and one at least.
            rows = max(1, PROMPT_TOKENS // n_tokens)
            for start in range(0, len(group_rows), rows):
                chunk = group_rows[start : start + rows]
                chunk_answers = self._answers(
                    [images[i] for i in chunk], [question_texts[i] for i in chunk], max_new_tokens
                )
                for i, answer in zip(chunk, chunk_answers, strict=True):
                    answers[i] = answer
        return answers

    def option_scores(
        self, images: Sequence[Prepared], text: str, options: Sequence[str]
    ) -> list[float] | None:
        """See LanguageModel.option_scores."""
        cache, samples = self.prefill_several([images])
        turn = self.prompt.question(text, len(images))
        return self.log_probabilities(cache, samples, turn, options)

    def _answers(
        self, images: Sequence[Sequence[Prepared]], texts: Sequence[str], max_new_tokens: int
    ) -> list[str | None]:
        """Answers to questions of equal shapes; where the device has no room for them, those of
        each half.
        """
        try:
            return self.generate(*self.prefill_several(images), texts, max_new_tokens)
        except torch.OutOfMemoryError as error:
            if len(texts) == 1:
                raise KvtoolError(
                    f"question over {', '.join(item.sample.id for item in images[0])}: expected "
                    "its prompt to fit on "
                    "the device, found no memory left; free the device, or load the model in "
                    f"bfloat16 ({error})"
                ) from None
        # Halved until it fits: the rows of a batch are answered each for itself.
        half = len(texts) // 2
        first = self._answers(images[:half], texts[:half], max_new_tokens)
        return first + self._answers(images[half:], texts[half:], max_new_tokens)

    @torch.inference_mode()
    def prefill_several(self, images: Sequence[Sequence[Prepared]]) -> tuple[Any, list[Sample]]:
        """Return a cache of prompts of equal shapes up to the last token of their last images, one
        row a prompt; and these images' records moved to their places there. `logits` and `generate`
        go on from both.
        """
        n_images = len(images[0])
        # Each image runs through the tower once; slot, slot + n_images, ... are the images of one
        # place.
        tokens = self._image_tokens([item for items in images for item in items])
        embedded: list[torch.Tensor] = []
        parts: list[tuple[int, Sample]] = []
        for slot, ids in enumerate(self.prompt.several_ids(n_images)):
            text = self.embed(
                to_device(
                    [torch.tensor(ids, dtype=torch.long)] * len(images), self.checkpoint.device
                )
            )
            # What a family writes after an image (LLaVA's newline) stands before the text that
            # follows it.
            if slot:
                text = self.after_images([items[slot - 1].sample for items in images], text)
            embedded += [text, torch.stack(tokens[slot::n_images]).to(text.dtype)]
            parts.append((text.shape[1], images[0][slot].sample))
        positions, next_position = self.prompt_positions(parts)
        prompts = torch.cat(embedded, dim=1)
        cache = self._begun(images)
        n_begun = cache.get_seq_length()
        self.run(prompts[:, n_begun:], positions[..., n_begun:].to(prompts.device), cache)
        last = [items[-1].sample for items in images]
        # The cache ends with the last image, so that text goes on as after a single one.
        # Where the last image begins among all tokens of the prompt.
        image_start = prompts.shape[1] - last[0].n_tokens
        return cache, [
            replace(sample, image_start=image_start, next_position=next_position) for sample in last
        ]

    def _begun(self, images: Sequence[Sequence[Prepared]]) -> Any:
        """Return a cache of prompts of equal shapes up to their first images, where all of these
        bring what a run stores of them behind the same text; else an empty one.
        """
        firsts = [items[0] for items in images]
        stored = [first.stored for first in firsts if first.stored is not None]
        # What is stored of the first image holds behind the very same text alone.
        opening = tuple(self.prompt.several_ids(len(images[0]))[0])
        same_text = all(first.sample.prefix_ids == opening for first in firsts)
        # Something has to run after the cache: the prompt of a single image is not begun.
        if len(stored) < len(firsts) or not same_text or len(images[0]) == 1:
            return self.new_cache()
        return self.restore([first.sample for first in firsts], stored)

    def _image_tokens(self, items: Sequence[Prepared]) -> list[torch.Tensor]:
        """Return each image's tokens as the decoder takes them, (token, hidden)."""
        entering = [before.tokens for before in self._entering(items)]
        return [tokens for tokens in entering if tokens is not None]

    def _entering(self, items: Sequence[Prepared]) -> list[BeforeDecoder]:
        """Return what of each image enters the decoder, its arrays without an axis of images;
        images of one signature run together.
        """
        entering: dict[int, BeforeDecoder] = {}
        # Pictures of one signature are one batch of the tower, whatever question they are of.
        for group_rows in _grouped([item.signature for item in items]):
            before = self.before_decoder([items[i] for i in group_rows], (), project=True)
            assert before.tokens is not None
            for row, i in enumerate(group_rows):
                added = tuple(layer[row] for layer in before.added)
                entering[i] = BeforeDecoder(before.tokens[row], {}, added)
        return [entering[i] for i in range(len(items))]

    def image_positions(self, sample: Sample) -> torch.Tensor:
        """Rotary positions of an image's tokens, its first at 0, in the form of `text_positions` of
        one row.
        """
        return self.text_positions(torch.arange(sample.n_tokens)[None])

    def prompt_positions(self, parts: Sequence[tuple[int, Sample]]) -> tuple[torch.Tensor, int]:
        """Rotary positions of a prompt up to its last image's last token, in the form of
        `text_positions` of one row; and that of the token after it. parts: how many tokens stand
        before each image, and the image.
        """
        positions: list[torch.Tensor] = []
        start = 0
        for n_text, sample in parts:
            # Text counts on from the end of the image before it.
            text = self.text_positions(torch.arange(start, start + n_text)[None])
            positions += [text, start + n_text + self.image_positions(sample)]
            # An image may move positions on by less than its number of tokens.
            start += n_text + sample.next_position - sample.image_start
        return torch.cat(positions, dim=-1), start


def _check(images: Sequence[Sequence[Prepared]], texts: Sequence[str]) -> None:
    """Raises UsageError."""
    if len(images) != len(texts):
        raise UsageError(
            f"questions: expected as many texts as sets of images, found {len(texts)} texts and "
            f"{len(images)} sets; "
            "give one text for each set"
        )
    for items, text in zip(images, texts, strict=True):
        if not items:
            raise UsageError(
                f"question {text!r}: expected at least one image, found none; leave the question "
                "out"
            )
        for item in items:
            # Several images have one prompt, in which no image has a text of its own.
            if item.sample.prefix:
                raise UsageError(
                    f"image {item.sample.id}: expected no prefix in a question over several "
                    "images, found "
                    f"{item.sample.prefix!r}; prepare it without one"
                )


def _shape(item: Prepared) -> Hashable:
    """Return what must be equal in a batch: the image's tokens and, since rotary positions follow
    them, its grids.
    """
    return item.sample.n_tokens, tuple(span.grid for span in item.sample.spans)


def _grouped(keys: Sequence[Hashable]) -> list[list[int]]:
    """Return indices of equal keys together, in the order in which the keys first appear."""
    groups: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        groups.setdefault(key, []).append(index)
    return list(groups.values())
