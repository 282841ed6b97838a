"""Whether a model works here, measured on a picture: its map from pixels to tokens, and what a
store is built on: that an image's keys and values depend on nothing after it, and that a model goes
on from them as from the whole prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

import numpy as np
import torch
from PIL import Image, ImageOps

from kvtool.display import Displayed, Facts
from kvtool.errors import ModelError
from kvtool.models.base import Array, Captured, LanguageModel, Prepared
from kvtool.models.device import from_numpy
from kvtool.models.knockout import knocked_out
from kvtool.types import GridSpan, Kind, View

QUESTIONS = ("What is in the image?", "Is there a cat? Answer yes or no.")
LIMITS = {torch.float32: 1e-3, torch.float16: 0.03, torch.bfloat16: 0.1}
"""By precision, the largest difference that is none, as a share of the largest value.

Sums over other numbers of tokens are rounded in another order.
"""
MOST_MISSES = 1 / 3
"""Share of the changed cells whose token may change less than another one."""


@dataclass(frozen=True, repr=False)
class ModelCheck(Displayed):
    """What one check of a model measured.

    Attributes:
        check: What was checked.
        view: In which view of the picture.
        passed: Whether it holds.
        value: What was measured: a share of cells, or a difference as a share of the largest value.
        limit: The largest value with which it holds.
        meaning: The value in words.
    """

    check: str
    view: View
    passed: bool
    value: float
    limit: float
    meaning: str

    def row(self) -> dict[str, Any]:
        """Return the values by name, as the command prints them."""
        return asdict(self)

    def _title(self) -> str:
        return f"{self.check} of the {self.view} view"

    def _facts(self) -> Facts:
        return {name: value for name, value in self.row().items() if name not in ("check", "view")}


def check_views(model: Any, image: Image.Image) -> Iterator[ModelCheck]:
    """Yield the checks of every view of a model that differs from the others."""
    seen: list[Any] = []
    for view in get_args(View):
        sample = model.prepare(image, id="check", index=0, view=view).sample
        if (sample.spans, sample.vision_spans) in seen:
            continue
        seen.append((sample.spans, sample.vision_spans))
        for check in CHECKS if isinstance(model, LanguageModel) else ENCODER_CHECKS:
            yield check(model, image, view)


def prove(model: Any, image: Image.Image, view: View) -> None:
    """Raise ModelError where a model's map from pixels to tokens is not true, or an image's keys
    and values are not those of the whole prompt.
    """
    for check in (pixel_map, whole_prompt):
        outcome = check(model, image, view)
        if not outcome.passed:
            raise ModelError(
                f"model {model.info.name}: expected the check of its {outcome.check} to hold, "
                f"found {outcome.meaning}; kvtool models check measures more, and --no-check "
                "extracts all the same"
            )


# The map.


def pixel_map(model: Any, image: Image.Image, view: View) -> ModelCheck:
    """Change nine cells of each grid: the token that changes most must be the one that the map
    names.
    """
    kind: Kind = "projected" if isinstance(model, LanguageModel) else "vision"
    before, spans = _features(model, image, view, kind)
    last = max(token for span in spans for token in span.token_indices())
    if last >= len(before):
        return _outcome(
            "pixel map", view, 1, MOST_MISSES, f"token {last} in the map, of {len(before)}"
        )
    hits: list[bool] = []
    for span in spans:
        tokens = np.array(span.token_indices())
        for row, col in nine_cells(span, image.size):
            changes = np.zeros(len(tokens))
            # One filling alone may mean much to a tower, so that every token changes.
            for picture in refilled(image, span, row, col):
                after, _ = _features(model, picture, view, kind)
                change = np.linalg.norm((after - before)[tokens], axis=1)
                changes += change / max(change.max(), np.finfo(np.float32).tiny)
            strongest = int(tokens[changes.argmax()])
            hits.append(strongest == span.token_at(*span.centre_px(row, col)))
    n_missed = len(hits) - sum(hits)
    meaning = f"{sum(hits)} of {len(hits)} cells change the token over them most"
    return _outcome("pixel map", view, n_missed / len(hits), MOST_MISSES, meaning)


def nine_cells(span: GridSpan, image_wh_px: tuple[int, int]) -> list[tuple[int, int]]:
    """Return up to nine (row, col) spread over what a grid shows of an image, its corners among
    them.
    """
    width, height = image_wh_px
    rows = [row for row in range(span.grid[0]) if 0 <= span.centre_px(row, 0)[1] < height]
    cols = [col for col in range(span.grid[1]) if 0 <= span.centre_px(0, col)[0] < width]
    spread = [sorted({n[0], n[len(n) // 2], n[-1]}) for n in (rows, cols) if n]
    return [(row, col) for row in spread[0] for col in spread[1]]


def refilled(image: Image.Image, span: GridSpan, row: int, col: int) -> list[Image.Image]:
    """Return an image with one cell inverted, and with it filled by noise.

    White is no filling: to some towers it means so much that every token changes.
    """
    x0, y0, x1, y1 = span.cover_xyxy_px
    step_x, step_y = (x1 - x0) / span.grid[1], (y1 - y0) / span.grid[0]
    left, top = round(x0 + col * step_x), round(y0 + row * step_y)
    right, bottom = round(x0 + (col + 1) * step_x), round(y0 + (row + 1) * step_y)
    box = (left, top, max(right, left + 1), max(bottom, top + 1))
    shape = (box[3] - box[1], box[2] - box[0], 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    pictures = []
    for filling in (ImageOps.invert(image.crop(box)), Image.fromarray(noise)):
        picture = image.copy()
        picture.paste(filling, box)
        pictures.append(picture)
    return pictures


def _features(
    model: Any, image: Image.Image, view: View, kind: Kind
) -> tuple[Array, tuple[GridSpan, ...]]:
    """Return the (token, dim) of a kind before the decoder in float32, and its grids."""
    item = model.prepare(image, id="check", index=0, view=view)
    captured = model.capture([item], model.request((kind,), None))
    features = from_numpy(captured.arrays[kind][0][0, 0], torch.float32)
    return features.numpy(), item.sample.spans_of(kind)


# Keys and values.


def whole_prompt(model: Any, image: Image.Image, view: View) -> ModelCheck:
    """Compare an image's keys and values with those of a prompt that a question ends."""
    item = model.prepare(image, id="check", index=0, view=view)
    layers, _ = _whole_pass(model, item, QUESTIONS[0])
    difference = _largest(_captured_layers(model, item), layers)
    meaning = "keys and values differ from those of the whole prompt by {}"
    return _difference(model, "whole prompt", view, difference, meaning)


def question(model: Any, image: Image.Image, view: View) -> ModelCheck:
    """Compare an image's keys and values under two questions."""
    item = model.prepare(image, id="check", index=0, view=view)
    first, second = (_whole_pass(model, item, text)[0] for text in QUESTIONS)
    meaning = "keys and values differ by {} under two questions"
    return _difference(model, "question", view, _largest(first, second), meaning)


def batch(model: Any, image: Image.Image, view: View) -> ModelCheck:
    """Compare what is captured of two pictures together with what is captured of each alone."""
    items = _pair(model, image, view)
    request = model.request(None, None)
    together = model.capture(items, request)
    difference = 0.0
    for index, item in enumerate(items):
        single = model.capture([item], request)
        for name in together.arrays:
            pair = [_tensor(c, name, i) for c, i in ((together, index), (single, 0))]
            difference = max(difference, _largest([pair[0]], [pair[1]]))
    return _difference(model, "batch", view, difference, "pictures differ by {} from each alone")


def continuation(model: Any, image: Image.Image, view: View) -> ModelCheck:
    """Compare the logits after a cache restored from stored arrays with the whole prompt's."""
    item = model.prepare(image, id="check", index=0, view=view)
    captured = model.capture([item], model.request(("key", "value", "projected"), None))
    arrays = {name: items[0] for name, items in captured.arrays.items()}
    arrays |= {f"text_{name}": items[0] for name, items in captured.text.items()}
    text = model.question(QUESTIONS[0])
    logits = model.logits(model.restore([item.sample], [arrays]), [item.sample], text)
    _, expected = _whole_pass(model, item, QUESTIONS[0])
    meaning = "logits differ by {} from those of the whole prompt"
    return _difference(model, "continuation", view, _largest([logits], [expected]), meaning)


def knockout(model: Any, image: Image.Image, view: View) -> ModelCheck:
    """Compare the logits over two pictures where no head of any layer sees them.

    Layers of linear attention have no heads to block: both pictures have the states of the first.
    """
    geometry = model.info.geometry
    logits: list[torch.Tensor] = []
    states: dict[int, Any] = {}
    for item in _pair(model, image, view):
        cache = model.prefill([item])
        for layer in geometry.recurrent:
            cache.layers[layer] = states.setdefault(layer, cache.layers[layer])
        with knocked_out(model, [item.sample], geometry.heads):
            logits.append(model.logits(cache, [item.sample], model.question(QUESTIONS[0])))
    meaning = "logits differ by {} between two pictures that no head sees"
    return _difference(model, "knockout", view, _largest(logits[:1], logits[1:]), meaning)


Measure = Callable[[Any, Image.Image, View], ModelCheck]
CHECKS: tuple[Measure, ...] = (pixel_map, whole_prompt, question, batch, continuation, knockout)
ENCODER_CHECKS: tuple[Measure, ...] = (pixel_map, batch)


def _pair(model: Any, image: Image.Image, view: View) -> list[Prepared]:
    """Two pictures of one size, the second with the colors of the first inverted."""
    return [
        model.prepare(picture, id=str(index), index=index, view=view)
        for index, picture in enumerate((image, ImageOps.invert(image)))
    ]


@torch.inference_mode()
def _whole_pass(model: Any, item: Prepared, text: str) -> tuple[list[torch.Tensor], torch.Tensor]:
    """An image's keys and values (kv_head, token, dim) of every layer in a prompt with a question,
    and the logits (1, token, vocabulary) of the question.
    """
    ids = model.prompt.text_ids(model.question(text))
    cache = model.new_cache()
    before = model.before_decoder([item], (), project=True)
    states = model.run_prompts([item.sample], before, cache, ids)[:, -len(ids) :]
    end = item.sample.image_start + item.sample.n_tokens
    layers: list[Any] = cache.layers
    tokens = slice(item.sample.image_start, end)
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
            states |= {(layer, kind): rows[n] for n, layer in enumerate(array.layers)}
    return [tensor for _, tensor in sorted(states.items(), key=lambda item: item[0])]


def _tensor(captured: Captured, kind: Any, index: int) -> torch.Tensor:
    return from_numpy(captured.arrays[kind][index], torch.float32)


def _largest(first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> float:
    """The largest difference of two series of tensors, as a share of the largest value in each."""
    shares = [
        float((left.float().cpu() - right.float().cpu()).abs().max() / right.abs().max().float())
        for left, right in zip(first, second, strict=True)
    ]
    return max(shares)


def _difference(model: Any, check: str, view: View, value: float, meaning: str) -> ModelCheck:
    limit = LIMITS[model.checkpoint.dtype]
    share = f"{value:.2g} of the largest value"
    return _outcome(check, view, value, limit, meaning.format(share))


def _outcome(check: str, view: View, value: float, limit: float, meaning: str) -> ModelCheck:
    # A value that is no number passes no check.
    return ModelCheck(check, view, bool(value <= limit), value, limit, meaning)
