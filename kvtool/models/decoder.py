"""What multimodal families share: what to keep, and capture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, ClassVar, get_args

import torch

from kvtool.errors import UsageError
from kvtool.layers import LayerChoice
from kvtool.models.base import Array, BeforeDecoder, Prepared, Request
from kvtool.models.cache import (
    CaptureCache,
    PreRopeCache,
    residual_stream,
    until_finished,
)
from kvtool.models.captured import Captured
from kvtool.models.choices import chosen_kinds, chosen_layers
from kvtool.models.decoder_geometry import decoder_geometry
from kvtool.models.device import copies_under_way, from_numpy, one_head_arrays, to_device
from kvtool.models.loading import Checkpoint
from kvtool.models.prompts import Prompt
from kvtool.models.saliency import ClassAttention
from kvtool.models.texts import TextReader
from kvtool.types import (
    BEFORE_DECODER,
    HIDDEN,
    SALIENCY,
    TOWER_KINDS,
    VECTOR_KINDS,
    Geometry,
    KeyPosition,
    Kind,
    Sample,
)


class DecoderModel(TextReader):
    """A tower, a projector and a decoder with rotary positions.

    A family adds how it prepares and encodes images.

    A subclass names its transformers class and says what the methods that raise NotImplementedError
    say here; see docs/adding-a-model.md.
    """

    family: ClassVar[str]
    network: ClassVar[Any]
    opening: str = ""
    """What the chat template writes directly before the image placeholder as part of the image."""
    reads_system: ClassVar[bool] = True
    """Whether a system message can stand before the image."""
    has_class_token: bool = False
    """Whether the tower has a class token; then the family gives its attention, too."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.config = checkpoint.config(self.network)
        self.net = checkpoint.network(self.network, self.config)
        self.language_model = self.net.get_decoder()
        self.prompt = self.make_prompt(checkpoint.tokenizer())
        self.info = checkpoint.info(self.family, self.geometry(), self.prompt.template)

    def make_prompt(self, tokenizer: Any) -> Prompt:
        """Return the prompt layout of the checkpoint's chat template."""
        return Prompt(
            tokenizer,
            self.checkpoint.snapshot.path,
            str(tokenizer.convert_ids_to_tokens(self.config.image_token_id)),
            self.opening,
            self.fallback_template(),
            self.checkpoint.settings.system,
        )

    def fallback_template(self) -> str:
        """The family's chat template, for a checkpoint that has none."""
        raise NotImplementedError

    def default_vision_layers(self) -> tuple[int, ...]:
        """Tower layers that feed the projector."""
        raise NotImplementedError

    def encode(
        self, batch: Sequence[Prepared], vision_layers: Sequence[int], project: bool
    ) -> BeforeDecoder | tuple[torch.Tensor | None, dict[int, torch.Tensor]]:
        """Run the tower. Returns image tokens as the decoder takes them, (image, token, hidden), if
        `project`; and outputs of tower layers, (image, vision_token, dim), row-major.
        """
        raise NotImplementedError

    def class_attention(self, layer: int) -> ClassAttention:
        """The attention of the class token in a layer of the tower, of a family that has one."""
        raise NotImplementedError

    def saliency(self, attention: ClassAttention, batch: Sequence[Prepared]) -> torch.Tensor:
        """The attention of the class token to a batch's patches, (image, vision_token, 1),
        row-major as `encode` gives its layers.
        """
        raise NotImplementedError

    def vision_size(self) -> tuple[int, int]:
        """(layers, dim) of the tower."""
        vision = self.config.vision_config
        return vision.num_hidden_layers, vision.hidden_size

    def text_config(self) -> Any:
        """Return the settings of the decoder."""
        return self.config.text_config

    def geometry(self) -> Geometry:
        """Return the sizes of the decoder and the tower."""
        return decoder_geometry(self.text_config(), *self.vision_size())

    def request(
        self,
        kinds: Sequence[Kind] | None,
        layers: LayerChoice | None,
        keys: KeyPosition = "post-rope",
        vision_layers: Sequence[int] | None = None,
    ) -> Request:
        """See Model.request.

        The default is every kind of vectors but the residual stream, every decoder layer, and the
        tower layer that is projected.
        """
        geometry = self.info.geometry
        if keys not in get_args(KeyPosition):
            raise UsageError(
                f"keys: expected post-rope or pre-rope, found {keys!r}; choose one of these"
            )
        request = Request(
            chosen_kinds(kinds, VECTOR_KINDS, self.has_class_token),
            chosen_layers(layers, geometry.layers, range(geometry.layers)),
            chosen_layers(vision_layers, geometry.vision_layers, self.default_vision_layers()),
            keys,
        )
        if {"key", "value"} & set(request.kinds) and not geometry.cached(request.layers):
            raise UsageError(
                f"layers: {geometry.without_cache(request.layers[0])}: expected some of "
                f"{', '.join(map(str, geometry.cached_layers))}, or --kinds hidden"
            )
        return request

    def capture(self, batch: Sequence[Prepared], request: Request) -> Captured:
        """See Model.capture."""
        return self.begin_capture(batch, request).wait()

    @torch.inference_mode()
    def begin_capture(self, batch: Sequence[Prepared], request: Request) -> Captured:
        """Capture a batch, whose arrays may still be on their way to the host (Captured.wait)."""
        assert self.checkpoint.weights, "a model loaded without weights plans only"
        assert len({item.signature for item in batch}) == 1, "a batch needs equal signatures"
        # Without what the decoder makes it does not run at all.
        decode = bool({"key", "value", HIDDEN} & set(request.kinds))
        # The tower runs up to the layer whose class token is asked, whether that layer is kept.
        vision_layers = request.vision_layers if set(TOWER_KINDS) & set(request.kinds) else ()
        with self.checkpoint.running():
            return self._captured(batch, request, vision_layers, decode)

    def _captured(
        self,
        batch: Sequence[Prepared],
        request: Request,
        vision_layers: Sequence[int],
        decode: bool,
    ) -> Captured:
        """The arrays of a batch: of the tower's layers, and, with `decode`, of the decoder's."""
        # Attention is no output of the tower: its pass is watched where saliency is asked for.
        is_salient = SALIENCY in request.kinds
        attention = self.class_attention(max(vision_layers)) if is_salient else None
        with attention.watching() if attention else nullcontext():
            before = self.before_decoder(
                batch, vision_layers, decode or "projected" in request.kinds
            )
        captured = Captured()
        if "vision" in request.kinds:
            layers = [before.vision[layer] for layer in vision_layers]
            captured.arrays["vision"] = one_head_arrays(layers)
        if attention:
            captured.arrays[SALIENCY] = one_head_arrays([self.saliency(attention, batch)])
        if before.tokens is not None and "projected" in request.kinds:
            captured.arrays["projected"] = one_head_arrays([before.tokens])
        if decode:
            self._decode([item.sample for item in batch], before, request, captured)
        captured.copies = copies_under_way()
        return captured

    def prepare_stored(
        self, sample: Sample, arrays: Mapping[str, Array], prefix: str = ""
    ) -> Prepared:
        """See LanguageModel.prepare_stored."""
        prefix_ids = self.prompt.prefix_ids(prefix)
        # Where the image begins depends on the text before it: all later positions move along.
        moved = replace(
            sample,
            prefix=prefix,
            prefix_ids=prefix_ids,
            image_start=len(prefix_ids),
            next_position=sample.next_position + len(prefix_ids) - sample.image_start,
        )
        stored: list[str] = [kind for kind in BEFORE_DECODER if kind in arrays]
        tensors: dict[str, Any] = {
            kind: from_numpy(arrays[kind][:, 0], self.checkpoint.dtype) for kind in stored
        }
        # The tower's grids and the number of tokens: what tells batches of pixels apart, so that
        # both are the same.
        grids = tuple(span.grid for span in sample.vision_spans)
        return Prepared(
            moved, tensors, ("stored", *tensors, moved.image_start, moved.n_tokens, grids)
        )

    def before_decoder(
        self, batch: Sequence[Prepared], vision_layers: Sequence[int], project: bool
    ) -> BeforeDecoder:
        """What `encode` gives, from the tower or, where the batch was prepared from a run, as that
        run stored it.
        """
        if "projected" not in batch[0].tensors:
            encoded = self.encode(batch, vision_layers, project)
            return encoded if isinstance(encoded, BeforeDecoder) else BeforeDecoder(*encoded)
        device = self.checkpoint.device
        tokens = to_device([item.tensors["projected"][0] for item in batch], device)
        # Stored rows of the tower come in the order of the request's layers.
        vision = {
            layer: to_device([item.tensors["vision"][index] for item in batch], device)
            for index, layer in enumerate(vision_layers)
        }
        return BeforeDecoder(tokens, vision)

    def _decode(
        self,
        samples: Sequence[Sample],
        before: BeforeDecoder,
        request: Request,
        captured: Captured,
    ) -> None:
        """Run the decoder over prefix and image tokens, up to the last layer asked for."""
        names: list[Kind] = [kind for kind in request.kinds if kind in ("key", "value")]
        start = samples[0].image_start
        # The prompt ends with the image, so that what stands before it is text.
        parts = {"text": slice(0, start), "image": slice(start, None)}
        # Keys before their rotation are seen at the projections; the cache itself gets rotated
        # ones.
        pre_rope = request.keys == "pre-rope" and "key" in names
        geometry = self.info.geometry
        # The stream after the last layer is made once its attention and its MLP have run.
        keeps_stream = HIDDEN in request.kinds
        arrays = {str(name): geometry.cache_arrays(name, request.layers) for name in names}
        cache = (PreRopeCache if pre_rope else CaptureCache)(
            arrays, parts, ends=not keeps_stream, states=self.new_cache()
        )
        layers = self.language_model.layers
        hooks = cache.hooked(layers) if isinstance(cache, PreRopeCache) else nullcontext()
        watching = residual_stream(layers, request.layers, parts["image"])
        with watching if keeps_stream else nullcontext() as stream, hooks, until_finished():
            self.run_prompts(samples, before, cache)
        if stream is not None:
            captured.arrays[HIDDEN] = stream.arrays()
        captured.arrays |= cache.arrays("image")
        captured.text |= cache.arrays("text")
