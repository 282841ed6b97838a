"""The base of encoders alone: vision transformers, of which a class in kvtool.models.families names
what differs.

They keep `vision`, outputs of chosen layers, and where it is asked for `saliency`, attention in the
last one; they read no text (kvtool.models.contrastive does).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, ClassVar

import torch
from PIL import Image

from kvtool.errors import ImageError, UsageError
from kvtool.layers import LayerChoice
from kvtool.models.base import Prepared, Request, sample_of
from kvtool.models.cache import layer_outputs, tower_layers
from kvtool.models.captured import Captured
from kvtool.models.choices import chosen_kinds, chosen_layers
from kvtool.models.cropping import cropped, patch_span
from kvtool.models.device import copies_under_way, one_head_arrays, to_device
from kvtool.models.families import NORMS
from kvtool.models.faults import preparing
from kvtool.models.loading import Checkpoint
from kvtool.models.saliency import ClassAttention
from kvtool.models.sizes import input_wh_px
from kvtool.models.text_vectors import TextVectors
from kvtool.types import SALIENCY, Geometry, GridSpan, KeyPosition, Kind, View


class Encoder:
    """A vision transformer. Class and register tokens come before its patches and are left out.

    The last layer is kept after the norm that the class puts there (kvtool.models.families.NORMS),
    so that it is the class's last_hidden_state; any other layer as it leaves the layer.
    """

    family: ClassVar[str]
    network: ClassVar[Any]
    processor_class: ClassVar[Any]
    options: ClassVar[dict[str, Any]] = {}
    interpolates: ClassVar[bool] = True
    """Whether the class must be told to interpolate its position embeddings for another image size.
    """
    long_step_px: ClassVar[int | None] = None
    """Of what the longer side of --image-size short:N is a multiple, beside the patch."""
    reads_text: ClassVar[bool] = False
    size_options: ClassVar[tuple[str, ...]] = ("image_size",)
    kinds: tuple[Kind, ...] = ("vision",)
    has_class_token: ClassVar[bool] = True

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.config = checkpoint.config(self.network)
        self.net: Any = self.load_network()
        self.processor = checkpoint.processor(self.processor_class)
        self.info = checkpoint.info(self.family, self.geometry())

    def load_network(self) -> Any:
        """Return the tower."""
        return self.checkpoint.network(self.network, self.config, **self.options)

    @property
    def has_saliency(self) -> bool:
        """Whether a token or a probe attends to all patches."""
        return self.has_class_token

    def geometry(self) -> Geometry:
        """Return the sizes of the tower."""
        return Geometry(0, 0, 0, 0, 0, self.config.num_hidden_layers, self.config.hidden_size)

    def request(
        self,
        kinds: Sequence[Kind] | None,
        layers: LayerChoice | None,
        keys: KeyPosition = "post-rope",
        vision_layers: Sequence[int] | None = None,
    ) -> Request:
        """See Model.request. `layers` are the tower's here; the default is its last."""
        count = self.info.geometry.vision_layers
        selected = chosen_layers(vision_layers if layers is None else layers, count, (count - 1,))
        return Request(chosen_kinds(kinds, self.kinds, self.has_saliency), (), selected, keys)

    def prepare(
        self, image: Image.Image, *, id: str, index: int, prefix: str = "", view: View = "base"
    ) -> Prepared:
        """See Model.prepare. An encoder has one view: base and full are the same."""
        if prefix:
            raise UsageError(
                f"prefix: expected none, for {self.family} reads no text before an image, found "
                f"{prefix!r}; leave it out"
            )
        if view not in ("base", "full"):
            raise UsageError(f"view: expected base or full, found {view!r}; choose one of these")
        with preparing(id):
            pixels, span = self.pixels(image)
        if 0 in span.grid:
            raise ImageError(
                f"image {id}: expected a whole patch of {self.config.patch_size} px, found "
                f"{image.width} x {image.height} px; leave it out, or have it resized "
                "(--image-size)"
            )
        # Tokens that stand in a space with texts are projected; a tower alone has patches only.
        spans = (span,) if "projected" in self.kinds else ()
        sample = sample_of(image, id=id, index=index, spans=spans, vision_spans=(span,))
        signature = (tuple(pixels.shape), span.grid)
        return Prepared(sample, {"pixels": pixels.to(self.checkpoint.dtype)}, signature)

    def pixels(self, image: Image.Image) -> tuple[torch.Tensor, GridSpan]:
        """Return the network's input, (3, height, width) unless a family says otherwise, and the
        grid of its patches.
        """
        wh_px = self.chosen_wh_px(image)
        if wh_px is None:
            pixels, shown_xyxy_px = cropped(image, self.processor)
            return pixels, patch_span(pixels, shown_xyxy_px, self.config.patch_size)
        # The whole picture is resized and nothing is cropped, as where DINO segments videos.
        size = {"width": wh_px[0], "height": wh_px[1]}
        options = {"do_resize": True, "do_center_crop": False, "size": size}
        pixels = self.processor(image, return_tensors="pt", **options)["pixel_values"][0]
        shown_xyxy_px = (0.0, 0.0, float(image.width), float(image.height))
        return pixels, patch_span(pixels, shown_xyxy_px, self.config.patch_size)

    def chosen_wh_px(self, image: Image.Image) -> tuple[int, int] | None:
        """Return the (width, height) to which a whole picture is resized; None where that is left
        to the image processor, which may crop.
        """
        image_size = self.checkpoint.settings.size.image_size
        if not image_size:
            return None
        patch_px = self.config.patch_size
        # Whole patches must fill the longer side, too.
        step_px = self.long_step_px
        is_whole = step_px is not None and step_px % patch_px == 0
        return input_wh_px(image.size, image_size, patch_px, step_px if is_whole else patch_px)

    def capture(self, batch: Sequence[Prepared], request: Request) -> Captured:
        """See Model.capture."""
        return self.begin_capture(batch, request).wait()

    @torch.inference_mode()
    def begin_capture(self, batch: Sequence[Prepared], request: Request) -> Captured:
        """Capture a batch, whose arrays may still be on their way to the host (Captured.wait)."""
        assert self.checkpoint.weights, "a model loaded without weights plans only"
        assert len({item.signature for item in batch}) == 1, "a batch needs equal signatures"
        # The last layer runs for what is made of it, whether or not it is kept itself.
        vision_layers = request.vision_layers if "vision" in request.kinds else ()
        last = self.info.geometry.vision_layers - 1
        needed = {*vision_layers, *([last] if {"projected", SALIENCY} & {*request.kinds} else [])}
        is_watched = SALIENCY in request.kinds and self.has_class_token
        attention = ClassAttention(tower_layers(self.net, last + 1)[last]) if is_watched else None
        patches = self.patch_outputs(batch, sorted(needed), attention)
        captured = Captured()
        if vision_layers:
            vision = [patches[layer] for layer in vision_layers]
            captured.arrays["vision"] = one_head_arrays(vision)
        if "projected" in request.kinds:
            captured.arrays["projected"] = one_head_arrays([self.beside_text(patches[last])])
        if SALIENCY in request.kinds:
            captured.arrays[SALIENCY] = one_head_arrays([self.saliency(patches[last], attention)])
        captured.copies = copies_under_way()
        return captured

    def patch_outputs(
        self,
        batch: Sequence[Prepared],
        layers: Sequence[int],
        attention: ClassAttention | None = None,
    ) -> dict[int, torch.Tensor]:
        """Return the outputs of layers at patches, (image, patch, dim); of the last layer after the
        class's norm.

        `attention` watches the pass, where it is given.
        """
        pixels = to_device([item.tensors["pixels"] for item in batch], self.checkpoint.device)
        last = self.info.geometry.vision_layers - 1
        modules = tower_layers(self.net, last + 1)
        with (
            self.checkpoint.running(),
            attention.watching() if attention else nullcontext(),
            layer_outputs(modules, layers, stop=True) as outputs,
        ):
            # The grid stands in the signature, so that it is the same for the whole batch.
            self.forward(pixels, batch[0].sample.vision_spans[0].grid)
        # The class norms all tokens of its last layer: so does what is stored.
        if last in outputs and (norm := NORMS.get(self.family)):
            outputs[last] = getattr(self.net, norm)(outputs[last])
        n_patches = batch[0].sample.n_vision_tokens
        # Class and register tokens stand before the patches.
        return {layer: states[:, -n_patches:] for layer, states in outputs.items()}

    def saliency(self, patches: torch.Tensor, attention: ClassAttention | None) -> torch.Tensor:
        """Attention to patches (image, patch, dim) of the last layer, (image, patch, 1): of that
        layer's class token.
        """
        assert attention is not None, "the class token was watched"
        return attention.over(patches.shape[1])

    def beside_text(self, patches: torch.Tensor) -> torch.Tensor:
        """Patches (image, patch, dim) of the last layer in the space of the text tower."""
        raise NotImplementedError

    def forward(self, pixels: torch.Tensor, grid: tuple[int, int]) -> Any:  # noqa: ARG002
        """Return what the class gives for inputs (image, ...) of a grid of patches."""
        if not self.interpolates:
            return self.net(pixels)
        # Position embeddings are made for one size, from which others are interpolated.
        size = self.config.image_size
        trained_hw = (size, size) if isinstance(size, int) else tuple(size)
        is_resized = tuple(pixels.shape[-2:]) != trained_hw
        return self.net(pixels, **({"interpolate_pos_encoding": True} if is_resized else {}))

    @torch.inference_mode()
    def class_output(self, item: Prepared) -> torch.Tensor:
        """Return the class's last_hidden_state of an image at its patches, (patch, dim), with which
        the last layer as it is kept is compared.
        """
        pixels = to_device([item.tensors["pixels"]], self.checkpoint.device)
        with self.checkpoint.running():
            output = self.forward(pixels, item.sample.vision_spans[0].grid)
        states: torch.Tensor = output.last_hidden_state
        return states[0, -item.sample.n_vision_tokens :]

    def text_vectors(
        self,
        texts: Sequence[str],
        layers: Sequence[int],  # noqa: ARG002
        kinds: Sequence[Kind],  # noqa: ARG002
        template: str = "{}",  # noqa: ARG002
    ) -> TextVectors:
        """See Model.text_vectors. Raises UsageError: an encoder alone reads no text."""
        raise UsageError(
            f"texts: expected a multimodal model, or an encoder with a text tower and a tokenizer, "
            f"found {self.family}, which reads no text; "
            f"leave out the {len(texts)} texts or choose another model"
        )
