"""Prompts: what a chat template puts before and after a user's image, as text and as token ids.

A prompt is [head][prefix and a line break, if any][image][tail]. Head and tail come from the
checkpoint's own chat template, rendered for one user turn of an image and a question; the prefix
stands directly before the image in every family, since most templates move the image to the front
of the turn whatever the order of its contents. A question over several images is the same
template's turn of that many images, without a prefix. A system text is a message before the user's
turn, where the template has such.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from threading import Lock
from typing import Any

from kvtool.errors import ModelError, UsageError
from kvtool.models.chat_templates import templates

QUESTION = "KVTOOL-QUESTION"
FAMILY_DEFAULT = "family default"
Messages = tuple[dict[str, Any], ...]
"""Of a conversation, as a chat template takes them."""


@dataclass(frozen=True)
class Layout:
    """A user's turn of some images and a question: texts before each image, and around the question
    after the last.
    """

    before: tuple[str, ...]
    before_question: str
    after_question: str


class Prompt:
    """The prompt layout of one checkpoint, by `template`; `source` names where that came from."""

    def __init__(
        self,
        tokenizer: Any,
        folder: Path,
        image: str,
        opening: str,
        fallback: str,
        system: str = "",
        *,
        written: str = "",
        closing: str = "",
    ) -> None:
        """image: the placeholder token; opening: the text directly before the first of them as part
        of the image; fallback: the family's template, for a checkpoint that has none; system: the
        text of a system message before every turn, if any; written: what a template writes for an
        image, by default the opening and one placeholder; closing: the text directly after the last
        placeholder that the template does not write itself.

        Raises UsageError where the template writes no system message before the image, and
        ModelError where there is no template.
        """
        self.tokenizer = tokenizer
        self.image = image
        self.image_id = tokenizer.convert_tokens_to_ids(image)
        if self.image_id is None or self.image_id == getattr(tokenizer, "unk_token_id", None):
            raise ModelError(
                f"model {folder}: expected {image} in the tokenizer's vocabulary, found no such "
                "token"
            )
        self.folder, self.opening, self.closing = folder, opening, closing
        self.marker = written or image
        self.written = written or opening + image
        self._lock = Lock()
        self._known: dict[tuple[str, str], tuple[int, ...]] = {}
        self._messages: Messages = ()
        self._choose(fallback)
        if system:
            self._put_system(system)

    def _choose(self, fallback: str) -> None:
        """Take the first template that renders an image and a question, in this order; say what was
        passed over.
        """
        passed_over: list[str] = []
        for source, template in (
            *templates(self.folder, self.tokenizer),
            (FAMILY_DEFAULT, fallback),
        ):
            for parts in (True, False):
                if layout := self._laid_out(template, parts, 1):
                    self.source, self.template, self._parts = source, template, parts
                    self._layouts = {1: layout}
                    self.head = layout.before[0]
                    if passed_over:
                        _warn_of_template(self.folder, passed_over[0], source)
                    return
            passed_over.append(source)
        raise ModelError(
            f"model {self.folder}: expected a chat template that writes an image and a question, "
            f"found {'none' if len(passed_over) == 1 else 'others'}; fetch chat_template.jinja too"
        )

    def _put_system(self, system: str) -> None:
        """Put a system message before every turn. Raises UsageError where the template lacks it."""
        self._refuse_image("--system", system)
        parts = [{"type": "text", "text": system}]
        # In the form that the template takes a user's turn in, or else in the other.
        for content in (parts, system) if self._parts else (system, parts):
            message = {"role": "system", "content": content}
            layout = self._laid_out(self.template, self._parts, 1, (message,))
            as_user = self._laid_out(self.template, self._parts, 1, ({**message, "role": "user"},))
            # A template that is blind to roles writes the text as a turn of the user's, and one
            # that takes strings writes parts as Python does: neither is a system message.
            if layout is None or layout == as_user or str(parts) in layout.before[0]:
                continue
            if system.strip() in layout.before[0]:
                self._messages, self._layouts, self.head = (message,), {1: layout}, layout.before[0]
                return
        raise UsageError(
            f"--system: expected a chat template that writes a system message before the image, "
            f"found {self.source} of model {self.folder}, which writes none there; leave it out"
        )

    def _laid_out(
        self, template: str, parts: bool, n_images: int, messages: Messages = ()
    ) -> Layout | None:
        """What a template makes of a turn after some messages, given in parts or, as older ones
        take it, as one string; else None.
        """
        content: Any = f"{self.marker * n_images}\n{QUESTION}"
        if parts:
            content = [*[{"type": "image"}] * n_images, {"type": "text", "text": QUESTION}]
        # Cut at the images, then at the question: what is left is what the template writes itself.
        *before, tail = self._render(template, content, messages).split(self.written)
        before_question, question, after_question = tail.partition(QUESTION)
        text = "".join((*before, before_question, after_question))
        # A template that drops, doubles or moves one of them does not lay out this turn.
        if len(before) != n_images or not question or self._has_image(text) or QUESTION in text:
            return None
        # What closes an image stands before the text that follows it.
        following = tuple(self.closing + text for text in before[1:])
        return Layout((before[0], *following), self.closing + before_question, after_question)

    def layout(self, n_images: int = 1) -> Layout:
        """The chosen template's turn of so many images.

        Raises ModelError where it does not render them all.
        """
        if n_images not in self._layouts:
            layout = self._laid_out(self.template, self._parts, n_images, self._messages)
            if layout is None:
                raise ModelError(
                    f"model {self.folder}: expected a chat template that writes {n_images} images "
                    "and a question, "
                    f"found another in {self.source}; ask over one image, or mend the template"
                )
            self._layouts[n_images] = layout
        return self._layouts[n_images]

    def _render(self, template: str, content: Any, messages: Messages) -> str:
        from jinja2 import TemplateError

        # What a template does to its arguments may raise what any program raises.
        failures = (
            TemplateError,
            ArithmeticError,
            AttributeError,
            LookupError,
            RuntimeError,
            TypeError,
            ValueError,
        )
        try:
            text: str = self.tokenizer.apply_chat_template(
                [*messages, {"role": "user", "content": content}],
                chat_template=template,
                tokenize=False,
                add_generation_prompt=True,
            )
        except failures:
            return ""
        return text

    def question(self, text: str, n_images: int = 1) -> str:
        """What follows the last of so many images when a user asks `text`, up to the assistant's
        turn.
        """
        layout = self.layout(n_images)
        return layout.before_question + text + layout.after_question

    def prefix_ids(self, prefix: str, opening: str | None = None) -> tuple[int, ...]:
        """Return the token ids before the first image token. Safe to call from several threads.

        opening: of this image, where it is not the one of all.
        """
        self._refuse_image("prefix", prefix)
        opening = self.opening if opening is None else opening
        with self._lock:
            if (prefix, opening) not in self._known:
                # Tokenized with the image behind it, since a text's last token may depend on what
                # follows.
                before = f"{self.head}{prefix}\n" if prefix else self.head
                ids = self._ids(before + opening + self.image, special=True)
                self._known[prefix, opening] = tuple(ids[: ids.index(self.image_id)])
            return self._known[prefix, opening]

    def several_ids(self, n_images: int, openings: Sequence[str] = ()) -> list[list[int]]:
        """Token ids of what stands before each of several images: before the first, and between
        each and the next.

        openings: of these images, where they are not the one of all.
        """
        text = "".join(
            before + opening + self.image
            for before, opening in zip(
                self.layout(n_images).before, openings or [self.opening] * n_images, strict=True
            )
        )
        with self._lock:
            ids = self._ids(text, special=True)
        pieces: list[list[int]] = [[]]
        for token in ids:
            # The image tokens themselves are no text: each begins the next piece.
            if token == self.image_id:
                pieces.append([])
            else:
                pieces[-1].append(token)
        return pieces[:n_images]

    def text_ids(self, text: str) -> list[int]:
        """Token ids of text that follows the image; tokenized with the image before it, as in a
        whole prompt.
        """
        self._refuse_image("text", text)
        with self._lock:
            ids = self._ids(self.image + text, special=False)
        return ids[ids.index(self.image_id) + 1 :]

    def placed_ids(self, text: str, is_alone: bool) -> tuple[list[int], int]:
        """Token ids of a prompt without an image that ends with a text, and how many are the
        text's.

        The text stands in the user's turn after its opening; alone, or where the template opens a
        turn with nothing, after the start token that the tokenizer may add.
        """
        opening = "" if is_alone else self.turn_opening
        with self._lock:
            ids = self._unended(self._ids(opening + text, special=True), text)
            before = self._unended(self._ids(opening, special=True), "") if opening else []
            # A tokenizer's own start token is no part of the text either.
            if not opening and ids and ids[0] == self.tokenizer.bos_token_id:
                before = ids[:1]
        return ids, max(len(ids) - len(before), min(len(ids), 1) if text else 0)

    def _unended(self, ids: list[int], text: str) -> list[int]:
        """Token ids without the end token that a tokenizer adds to a text."""
        end = self.tokenizer.eos_token_id
        is_added = len(ids) > 1 and ids[-1] == end and not text.endswith(self.tokenizer.eos_token)
        return ids[:-1] if is_added else ids

    @cached_property
    def turn_opening(self) -> str:
        """What the chat template writes before the text of a user's turn without an image."""
        contents: tuple[Any, ...] = ([{"type": "text", "text": QUESTION}], QUESTION)
        turn = self._render(self.template, contents[0 if self._parts else 1], self._messages)
        opening, question, _ = turn.partition(QUESTION)
        return opening if question and self.image not in opening else self.head

    def _has_image(self, text: str) -> bool:
        return self.image in text or self.marker in text

    def _refuse_image(self, what: str, text: str) -> None:
        if self._has_image(text):
            name = self.image if self.image in text else self.marker
            raise UsageError(
                f"{what}: expected text without {name}, which stands for the image; take it out"
            )

    def _ids(self, text: str, special: bool) -> list[int]:
        start = self.tokenizer.bos_token
        if start and text.startswith(start):  # the template wrote it already
            special = False
        ids: list[int] = self.tokenizer(text, add_special_tokens=special)["input_ids"]
        return ids


@cache
def _warn_of_template(folder: Path, passed_over: str, source: str) -> None:
    """Warn, once a checkpoint, that its chat template is not the one that lays out prompts."""
    logging.getLogger("kvtool").warning(
        "model %s: the chat template of %s does not render a turn of an image and a question; that "
        "of %s is used, "
        "which its runs record",
        folder,
        passed_over,
        "the model's family" if source == FAMILY_DEFAULT else source,
    )
