"""The captions of a data set of one's own: texts, sentences about pictures, prefixes, and what
captions refer to.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from kvtool.datasets import own_records as records
from kvtool.datasets.base import another
from kvtool.datasets.masks import LabelMap, read_binary
from kvtool.datasets.own_masks import OwnMasks
from kvtool.datasets.refcoco import Expression
from kvtool.errors import DatasetError


class OwnCaptions(OwnMasks):
    """What is read from captions.jsonl."""

    def texts(self) -> Sequence[str]:
        """Return names of the classes, then the captions, each once."""
        self.skipped = list(self._unlisted)
        names = list(self.class_texts()) if self._has("classes.json") else []
        if self._has("captions.jsonl"):
            names += [caption.text for caption in self._captions[0]]
            self.skipped += self._captions[1]
        return tuple(dict.fromkeys(names))

    def captions(self) -> Mapping[str, Sequence[str]]:
        """Return picture -> its captions in the order of their lines, of those that have some."""
        captions: defaultdict[str, list[str]] = defaultdict(list)
        for caption in self._captions[0]:
            captions[caption.image_id].append(caption.text)
        self.skipped = [*self._unlisted, *self._captions[1]]
        return dict(captions)

    @cached_property
    def _first_captions(self) -> dict[str, records.Caption]:
        """Picture -> its first caption."""
        # Reversed, so that the first caption of a picture stays.
        return {caption.image_id: caption for caption in reversed(self._captions[0])}

    def _caption(self, image_id: str) -> records.Caption:
        if image_id not in self._refs:
            raise self.unknown_image(image_id)
        if image_id not in self._first_captions:
            raise DatasetError(f"{self.folder / 'captions.jsonl'}: no caption of image {image_id}")
        return self._first_captions[image_id]

    def correct_prefix(self, image_id: str) -> str:
        """Return the picture's first caption."""
        return self._caption(image_id).text

    def incorrect_prefix(self, image_id: str) -> str:
        """Return what the first caption's line names as incorrect, else another picture's caption,
        the same each time.
        """
        caption = self._caption(image_id)
        captions = [image_caption.text for image_caption in self._first_captions.values()]
        return caption.incorrect or another(captions, caption.text, image_id)

    @cached_property
    def _referring(self) -> dict[int, records.Caption]:
        """Line -> a caption that says what it refers to."""
        return {caption.line: caption for caption in self._captions[0] if caption.refers}

    def expressions(self) -> list[Expression]:
        """Return the captions that say what they refer to; ids are the numbers of their lines."""
        self.skipped = [*self._unlisted, *self._captions[1]]
        return [
            Expression(
                line, line, line, caption.image_id, caption.category, caption.text, caption.text
            )
            for line, caption in self._referring.items()
        ]

    def expression_texts(self) -> Sequence[str]:
        """Return the text of each expression once, in order."""
        return tuple(dict.fromkeys(caption.text for caption in self._referring.values()))

    def place_of(self, expression: Expression) -> str:
        """Return the line of captions.jsonl that an expression stands on."""
        return f"{self.folder / 'captions.jsonl'}: line {expression.sent_id}"

    def image_wh_px(self, expression: Expression) -> tuple[int, int]:
        """Return the (width, height) in pixels of an expression's picture."""
        height, width = self.object_mask(expression).shape
        return width, height

    def object_mask(self, expression: Expression) -> LabelMap:
        """Return (height, width) uint8 0/1: the pixels of the class, or whatever is not black in
        the mask's file.
        """
        caption = self._referring[expression.sent_id]
        # A file of its own, or the pixels of a class in the picture's map.
        if caption.mask:
            return read_binary(self.folder / caption.mask)
        mask: LabelMap = self.group_mask(caption.image_id, caption.category) == 1
        return mask.astype(np.uint8)

    def _refers(self) -> bool:
        """Return whether some caption says what it refers to; a list that cannot be read may, and
        the task will say why.
        """
        if not self._has("captions.jsonl"):
            return False
        try:
            return any(caption.refers for caption in self._captions[0])
        except DatasetError:
            return True
