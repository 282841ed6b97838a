"""Whether a model works here, measured on a picture: its map from pixels to tokens, and what a
store is built on: that an image's keys and values depend on nothing after it, and that a model goes
on from them as from the whole prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import isfinite
from typing import Any, get_args

import torch
from PIL import Image, ImageOps

from kvtool.errors import ModelError
from kvtool.models.base import LanguageModel, Prepared
from kvtool.models.captured import Captured
from kvtool.models.cells import Stimulus, prepare_stimulus
from kvtool.models.decoder import DecoderModel
from kvtool.models.device import from_numpy
from kvtool.models.encoder import Encoder
from kvtool.models.families import TAKES_VIDEOS
from kvtool.models.knockout import knocked_out
from kvtool.models.outcome import ModelCheck, check_outcome
from kvtool.models.pixel_maps import pixel_map, tower_map
from kvtool.types import Kind, RunView, View

QUESTIONS = ("What is in the image?", "Is there a cat? Answer yes or no.")
LIMITS = {torch.float32: 1e-3, torch.float16: 0.03, torch.bfloat16: 0.1}
"""By precision, the largest difference that is none, as a share of the largest value.

Sums over other numbers of tokens are rounded in another order.
"""


def check_views(model: Any, image: Image.Image) -> Iterator[ModelCheck]:
    """Yield the checks of every view of a model that differs from the others, and of a video made
    of the picture if the model takes videos.
    """
    seen: list[Any] = []
    for view in get_args(View):
        sample = model.prepare(image, id="check", index=0, view=view).sample
        # Views that show the same grids are the same pass, and are checked once.
        if (sample.spans, sample.vision_spans) in seen:
            continue
        seen.append((sample.spans, sample.vision_spans))
        checks = CHECKS if isinstance(model, LanguageModel) else ENCODER_CHECKS
        # A plug-in's encoder may have no class of transformers to be compared with.
        for check in (*checks, class_output) if isinstance(model, Encoder) else checks:
            yield check(model, image, view)
        if getattr(model, "proves_tower", False) and sample.vision_spans:
            yield tower_map(model, image, view)
    if model.info.family in TAKES_VIDEOS:
        video = turned(image)
        yield from (check(model, video, "video") for check in CHECKS)


def turned(image: Image.Image) -> list[Image.Image]:
    """Return a video of a picture as it is, mirrored, upside down, and both."""
    mirrored = ImageOps.mirror(image)
    return [image, mirrored, ImageOps.flip(image), ImageOps.flip(mirrored)]


def prove(
    model: Any,
    image: Stimulus,
    view: RunView,
    kinds: Sequence[Kind] = (),
    substitute: Stimulus | None = None,
) -> None:
    """Raise ModelError where a model's map from pixels to tokens is not true, or an image's keys
    and values are not those of the whole prompt. Of an encoder alone there is only the map.

    What is not finite proves nothing and is not refused: an extraction names such pictures.

    Args:
        model: The model.
        image: A picture or a video.
        view: How a picture is shown.
        kinds: What is to be stored: if `vision` is, the tower's map is proven too, of models whose
            file does not say it.
        substitute: A picture or a video on which a check must hold that fails on the first, which
            may be too small, or of too few colors, to prove anything.
    """
    checks = [pixel_map, whole_prompt] if isinstance(model, DecoderModel) else [pixel_map]
    if "vision" in kinds and getattr(model, "proves_tower", False):
        checks.append(tower_map)
    for check in checks:
        outcome = check(model, image, view)
        if not outcome.passed and substitute is not None:
            outcome = check(model, substitute, view)
        if outcome.passed or not isfinite(outcome.value):
            continue
        if check is tower_map:
            raise ModelError(
                f"model {model.info.name}: expected the check of its tower map to hold, found "
                f"{outcome.meaning}; leave the tower out with --kinds key,value,projected"
            )
        raise ModelError(
            f"model {model.info.name}: expected the check of its {outcome.check} to hold, "
            f"found {outcome.meaning}; kvtool models check measures more, and --no-check "
            "extracts all the same"
        )


# Keys and values.


def whole_prompt(model: Any, image: Stimulus, view: RunView) -> ModelCheck:
    """Compare an image's keys and values with those of a prompt that a question ends."""
    # What is stored against the same tokens where text follows: causality makes them equal.
    item = prepare_stimulus(model, image, view)
    layers, _ = _whole_pass(model, item, QUESTIONS[0])
    difference = _largest(_captured_layers(model, item), layers)
    meaning = "keys and values differ from those of the whole prompt by {}"
    return _difference(model, "whole prompt", view, difference, meaning)


def question(model: Any, image: Stimulus, view: RunView) -> ModelCheck:
    """Compare an image's keys and values under two questions."""
    item = prepare_stimulus(model, image, view)
    first, second = (_whole_pass(model, item, text)[0] for text in QUESTIONS)
    meaning = "keys and values differ by {} under two questions"
    return _difference(model, "question", view, _largest(first, second), meaning)


def batch(model: Any, image: Stimulus, view: RunView) -> ModelCheck:
    """Compare what is captured of two pictures together with what is captured of each alone."""
    items = _pair(model, image, view)
    request = model.request(None, None)
    together = model.capture(items, request)
    pictures: list[torch.Tensor] = []
    singles: list[torch.Tensor] = []
    for index, item in enumerate(items):
        single = model.capture([item], request)
        # Each array of the pair against the same picture's alone, in the same order.
        pictures += (_tensor(together, name, index) for name in together.arrays)
        singles += (_tensor(single, name, 0) for name in together.arrays)
    meaning = "pictures differ by {} from each alone"
    return _difference(model, "batch", view, _largest(pictures, singles), meaning)


def class_output(model: Any, image: Stimulus, view: RunView) -> ModelCheck:
    """Compare an encoder's last layer with what its class gives for the picture."""
    item = prepare_stimulus(model, image, view)
    captured = _tensor(model.capture([item], model.request(("vision",), None)), "vision", 0)
    difference = _largest([captured[0, 0]], [model.class_output(item)])
    meaning = "the last layer differs by {} from the last_hidden_state of its class"
    return _difference(model, "class output", view, difference, meaning)


def continuation(model: Any, image: Stimulus, view: RunView) -> ModelCheck:
    """Compare the logits after a cache restored from stored arrays with the whole prompt's."""
    item = prepare_stimulus(model, image, view)
    captured = model.capture([item], model.request(("key", "value", "projected"), None))
    # Built as a reader of the store would get them.
    arrays = {name: items[0] for name, items in captured.arrays.items()}
    arrays |= {f"text_{name}": items[0] for name, items in captured.text.items()}
    text = model.question(QUESTIONS[0])
    logits = model.logits(model.restore([item.sample], [arrays]), [item.sample], text)
    _, expected = _whole_pass(model, item, QUESTIONS[0])
    meaning = "logits differ by {} from those of the whole prompt"
    return _difference(model, "continuation", view, _largest([logits], [expected]), meaning)


def knockout(model: Any, image: Stimulus, view: RunView) -> ModelCheck:
    """Compare the logits over two pictures where no head of any layer sees them.

    Layers of linear attention have no heads to block: both pictures have the states of the first.
    """
    geometry = model.info.geometry
    logits: list[torch.Tensor] = []
    states: dict[int, Any] = {}
    for item in _pair(model, image, view):
        cache = model.prefill([item])
        # Linear attention gets the first picture's states in both, so that only heads differ.
        for layer in geometry.recurrent:
            cache.layers[layer] = states.setdefault(layer, cache.layers[layer])
        with knocked_out(model, [item.sample], geometry.heads):
            logits.append(model.logits(cache, [item.sample], model.question(QUESTIONS[0])))
    meaning = "logits differ by {} between two pictures that no head sees"
    return _difference(model, "knockout", view, _largest(logits[:1], logits[1:]), meaning)


Measure = Callable[[Any, Stimulus, RunView], ModelCheck]
CHECKS: tuple[Measure, ...] = (pixel_map, whole_prompt, question, batch, continuation, knockout)
ENCODER_CHECKS: tuple[Measure, ...] = (pixel_map, batch)


def _pair(model: Any, image: Stimulus, view: RunView) -> list[Prepared]:
    """A picture or a video, and one of the same size with the colors inverted."""
    inverted: Stimulus
    if isinstance(image, Image.Image):
        inverted = ImageOps.invert(image)
    else:
        inverted = [ImageOps.invert(frame) for frame in image]
    return [prepare_stimulus(model, stimulus, view) for stimulus in (image, inverted)]


@torch.inference_mode()
def _whole_pass(model: Any, item: Prepared, text: str) -> tuple[list[torch.Tensor], torch.Tensor]:
    """An image's keys and values (kv_head, token, dim) of every layer in a prompt with a question,
    and the logits (1, token, vocabulary) of the question.
    """
    ids = model.prompt.text_ids(model.question(text))
    cache = model.new_cache()
    before = model.before_decoder([item], (), project=True)
    # The last states are the question's, from which its logits follow.
    states = model.run_prompts([item.sample], before, cache, ids)[:, -len(ids) :]
    end = item.sample.image_start + item.sample.n_tokens
    layers: list[Any] = cache.layers
    tokens = slice(item.sample.image_start, end)
    # Keys and values of the image alone, layer by layer: key first, as they are captured.
    arrays = [
        states[0, :, tokens]
        for layer in model.info.geometry.cached_layers
        for states in (layers[layer].keys, layers[layer].values)
    ]
    return arrays, model.head(states).float().cpu()


def _captured_layers(model: Any, item: Prepared) -> list[torch.Tensor]:
    """An image's keys and values as a run stores them, in the order of _whole_pass."""
    geometry = model.info.geometry
    captured = model.capture([item], model.request(("key", "value"), None))
    states: dict[tuple[int, str], torch.Tensor] = {}
    for kind in ("key", "value"):
        for array in geometry.cache_arrays(kind, range(geometry.layers)):
            rows = _tensor(captured, array.name, 0)
            # Layers of other shapes lie in other arrays; the order of layers is restored below.
            states |= {(layer, kind): rows[n] for n, layer in enumerate(array.layers)}
    return [tensor for _, tensor in sorted(states.items(), key=lambda item: item[0])]


def _tensor(captured: Captured, kind: Any, index: int) -> torch.Tensor:
    return from_numpy(captured.arrays[kind][index], torch.float32)


def _largest(first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> float:
    """The largest difference of two series of tensors, as a share of the largest value in each; not
    a number where a tensor of either has values that are none.
    """
    shares = [
        # A share of the largest value: layers differ in size by orders of magnitude.
        (left.float().cpu() - right.float().cpu()).abs().max() / _magnitude(right)
        for left, right in zip(first, second, strict=True)
    ]
    # Unlike Python's max, torch's hides no nan behind a number.
    return float(torch.stack(shares).max())


def _magnitude(tensor: torch.Tensor) -> torch.Tensor:
    """The largest absolute value, of zeros alone the smallest that can be divided by."""
    return tensor.float().cpu().abs().max().clamp_min(torch.finfo(torch.float32).tiny)


def _difference(model: Any, check: str, view: RunView, value: float, meaning: str) -> ModelCheck:
    limit = LIMITS[model.checkpoint.dtype]
    share = f"{value:.2g} of the largest value"
    return check_outcome(check, view, value, limit, meaning.format(share))
