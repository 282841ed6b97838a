"""What every model family provides: prepare an image, capture what the decoder holds of it,
continue from it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from kvtool.layers import LayerChoice
from kvtool.models.captured import Captured
from kvtool.models.text_vectors import TextVectors
from kvtool.types import GridSpan, KeyPosition, Kind, ModelInfo, Sample, View

if TYPE_CHECKING:
    import torch

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Request:
    """Which arrays a run keeps.

    `layers` are the decoder's, `vision_layers` the tower's layer outputs, both 0-based.
    """

    kinds: tuple[Kind, ...]
    layers: tuple[int, ...]
    vision_layers: tuple[int, ...]
    keys: KeyPosition = "post-rope"


@dataclass(frozen=True)
class Prepared:
    """One image made ready on the CPU: tensors by name, its sample record, and the signature of its
    shapes.

    Only images of equal signature may share a batch: nothing is ever padded.

    stored: keys and values, post-rope, of the prompt up to the image as a run stores them, where it
        may begin a prompt of several; see SeveralImages.prefill_several.
    """

    sample: Sample
    tensors: dict[str, Any]
    signature: Hashable
    stored: Mapping[str, Array] | None = None


class BeforeDecoder(NamedTuple):
    """What a batch of images gives before its decoder.

    tokens: Image tokens as they enter the decoder's first layer, (image, token, hidden), with what
        stands between them; None where nobody asked.
    vision: Outputs of tower layers by number, (image, vision_token, dim), row-major.
    added: What DeepStack adds to the residual stream after the decoder's first layers, a tensor
        (image, feature, hidden) a layer, at the image tokens alone.
    """

    tokens: torch.Tensor | None
    vision: dict[int, torch.Tensor]
    added: tuple[torch.Tensor, ...] = ()


class Model(Protocol):
    """A loaded model. `prepare` is safe to call from other threads than `capture`."""

    info: ModelInfo

    def request(
        self,
        kinds: Sequence[Kind] | None,
        layers: LayerChoice | None,
        keys: KeyPosition = "post-rope",
        vision_layers: Sequence[int] | None = None,
    ) -> Request:
        """Resolve the user's choice against this model; None means the family's default. `layers`
        are the decoder's, or the tower's of an encoder alone. Raises UsageError.
        """
        ...

    def prepare(
        self, image: Image.Image, *, id: str, index: int, prefix: str = "", view: View = "base"
    ) -> Prepared:
        """Preprocess one RGB image and lay out its prompt up to the last image token.

        Raises ImageError.
        """
        ...

    def capture(self, batch: Sequence[Prepared], request: Request) -> Captured:
        """Run the tower and the decoder over prefix and image tokens; no head.

        Batch of equal signatures only.
        """
        ...

    def text_vectors(
        self, texts: Sequence[str], layers: Sequence[int], kinds: Sequence[Kind], template: str
    ) -> TextVectors:
        """Vectors of texts run without an image, in the patterns of a template
        (kvtool.text_templates) and averaged over them, that tokens of these kinds are compared
        with.

        Raises UsageError for a text without a token, and of a model that reads none.
        """
        ...


@runtime_checkable
class LanguageModel(Model, Protocol):
    """A model that goes on from what a run holds: [text before][image] from the store, then any
    text.

    A cache is opaque to callers and is never changed by `logits` and `generate`: one cache serves
    every question.
    """

    language_model: Any
    """The decoder without its head, a transformers module: the place to set another attention."""

    def text_values(
        self, texts: Sequence[str], layers: Sequence[int], template: str = "{}"
    ) -> Array:
        """Values of each text's last token, (text, layer, kv_head, dim), see text_vectors."""
        ...

    def prepare_stored(
        self, sample: Sample, arrays: Mapping[str, Array], prefix: str = ""
    ) -> Prepared:
        """Make an image ready from what a run stored before the decoder, whatever that run's
        prefix: no tower runs.

        arrays: `projected` (1, 1, token, hidden), and `vision` (vision_layer, 1, vision_token,
            dim) of the layers that the request will name, if any. Batches of these give what
            batches of the pixels give.
        """
        ...

    def question(self, text: str) -> str:
        """What follows the image in the chat template when a user asks `text`, up to the
        assistant's turn.
        """
        ...

    def token_ids(self, text: str) -> list[int]:
        """Token ids of a text that follows the image."""
        ...

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Where each token of a text that follows the image stands in it: its first character and
        the one behind its last. Raises UsageError where the tokenizer does not tell.
        """
        ...

    def restore(
        self,
        samples: Sequence[Sample],
        arrays: Sequence[Mapping[str, Array]],
        keys: KeyPosition = "post-rope",
    ) -> Any:
        """Build a cache of the prompts up to the last image token, one row a sample.

        arrays: per sample `key`, `value` (layer, kv_head, token, dim) and `text_key`, `text_value`
            (layer, kv_head, prefix_token, dim) of every layer, as stored. Samples must have equal
            numbers of tokens (UsageError).
        """
        ...

    def prefill(self, batch: Sequence[Prepared]) -> Any:
        """The same cache, computed from prepared images instead of stored arrays."""
        ...

    def logits(
        self, cache: Any, samples: Sequence[Sample], text: str | Sequence[str], last: bool = False
    ) -> Any:
        """Logits (sample, token, vocabulary) in float32 at each token of `text`, or (sample,
        vocabulary) at its last.

        One text for all, or one a sample of equal numbers of tokens (UsageError). Where the model
        puts a token of its own between the image and the text (LLaVA's newline), it runs it first
        and leaves its logits out.
        """
        ...

    def generate(
        self,
        cache: Any,
        samples: Sequence[Sample],
        text: str | Sequence[str],
        max_new_tokens: int = 32,
    ) -> list[str | None]:
        """Greedy answers, special tokens left out, up to the end of the assistant's turn or
        `max_new_tokens`.

        Plainly greedy: sampling settings and penalties of the checkpoint's generation_config.json
        are not applied. None for a row whose logits are not all finite at some token of its answer.
        """
        ...

    def ask(
        self, cache: Any, sample: Sample, texts: Sequence[str], max_new_tokens: int = 32
    ) -> list[str | None]:
        """Greedy answers to several texts about one image, from a cache of one row.

        Texts of equal numbers of tokens run together, so that nothing is padded.
        """
        ...

    def prepare_several(
        self, image: Image.Image, *, id: str, index: int, view: View = "base"
    ) -> Prepared:
        """Make an image ready for a prompt of several, as transformers' processor does: the same as
        `prepare` but where that pads it (families.pads_several). Raises ImageError.
        """
        ...

    def ask_several(
        self, images: Sequence[Sequence[Prepared]], texts: Sequence[str], max_new_tokens: int = 32
    ) -> list[str | None]:
        """Greedy answers to questions over several images each: texts[i] is what a user asks of
        images[i], in order.

        The prompt is the chat template's turn of that many images, first the images, then the text,
        which is the user's plain words (not `question`'s). Images may be prepared from pixels or
        from a run, in any view, without a prefix. Questions of equal shapes run together. Raises
        UsageError; KvtoolError where one prompt does not fit the device.
        """
        ...

    def option_scores(
        self, images: Sequence[Prepared], text: str, options: Sequence[str]
    ) -> list[float] | None:
        """Log-probability of each option as the answer to such a question; None as of generate."""
        ...

    def image_end(self, sample: Sample) -> int:
        """Position in the prompt of the first token after the image and a newline of LLaVA's."""
        ...


def sample_of(
    image: Image.Image,
    *,
    id: str,
    index: int,
    prefix: str = "",
    prefix_ids: tuple[int, ...] = (),
    spans: tuple[GridSpan, ...] = (),
    vision_spans: tuple[GridSpan, ...] = (),
    advance: int | None = None,
    n_tokens: int | None = None,
) -> Sample:
    """The record of an image.

    advance: rotary positions from the image's first token to the text's; one a token unless the
    family says otherwise. n_tokens: how many tokens the image has, those between its grids
    included; by default they end with the last row of the last span.
    """
    # A grid ends with its last row, newline tokens included: rows stand row_stride apart.
    last_row_end, n_vision_tokens = (
        grids[-1].start + grids[-1].grid[0] * grids[-1].row_stride if grids else 0
        for grids in (spans, vision_spans)
    )
    if n_tokens is None:
        n_tokens = last_row_end
    return Sample(
        id=id,
        index=index,
        image_wh_px=image.size,
        n_tokens=n_tokens,
        spans=spans,
        n_vision_tokens=n_vision_tokens,
        vision_spans=vision_spans,
        prefix=prefix,
        prefix_ids=prefix_ids,
        image_start=len(prefix_ids),
        # Rotary positions may count an image otherwise than one a token.
        next_position=len(prefix_ids) + (n_tokens if advance is None else advance),
    )
