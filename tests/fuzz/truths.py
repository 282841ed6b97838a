"""Everything that a data set says: images, texts, prefixes, truth, call by call; each may be
refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.oracle import Wrong, refused

FEW = 4
"""Images or records of which masks are read."""

Fact = tuple[str, Any]


def facts(dataset: Any) -> list[Fact]:
    """(call, plain value) of all calls; None where the package refused."""
    images = refused(dataset.images)
    entries = [
        (
            "images",
            None if images is None else [(ref.id, ref.path and ref.path.name) for ref in images],
        )
    ]
    entries.append(("texts", plain(refused(dataset.texts))))
    for condition in dataset.about.conditions:
        for ref in (images or ())[:FEW]:
            entries.append(
                (f"prefix {condition}", plain(refused(dataset.prefix, ref.id, condition)))
            )
    for ref in (images or ())[:FEW]:
        if ref.read is not None:
            entries.append(("bytes", refused(ref.read)))
    ids = [ref.id for ref in images or ()]
    truth = TRUTHS.get(dataset.name)
    return [
        *entries,
        *(truth(dataset, ids) if truth else ()),
        *_captions_and_concepts(dataset, ids),
    ]


def _captions_and_concepts(dataset: Any, ids: list[str]) -> Iterator[Fact]:
    if hasattr(dataset, "captions"):
        yield "captions", plain(refused(dataset.captions))
    if hasattr(dataset, "concepts"):
        yield "concepts", plain(refused(dataset.concepts))
        for image in ids[:FEW]:
            masks = refused(dataset.concept_masks, image) or {}
            for concept, mask in masks.items():
                check_mask(mask, concept, 2)
            yield "concept masks", plain(masks)


def plain(value: Any) -> Any:
    """Values that compare: arrays as bytes, records as tuples, members of an object in no order."""
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str, value.tobytes()
    if is_dataclass(value) and not isinstance(value, type):
        return plain(astuple(value))
    if isinstance(value, dict):
        return sorted(([plain(key), plain(item)] for key, item in value.items()), key=repr)
    if isinstance(value, Path) or (isinstance(value, str) and value.startswith("/")):
        return Path(value).name  # where a data set lies is none of its facts
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def check_finite(value: Any, what: str) -> None:
    """No number of a truth is NaN or infinite: no metric could tell it from a hit or a miss."""
    if isinstance(value, float) and not math.isfinite(value):
        raise Wrong(f"{what}: {value} passed for a coordinate")
    if isinstance(value, list | tuple):
        for item in value:
            check_finite(item, what)


def check_mask(mask: Any, what: str, values: int = 256) -> None:
    """A mask is two-dimensional and holds no value but 0 to `values` - 1 and void."""
    if mask is not None and (mask.ndim != 2 or ((mask >= values) & (mask != 255)).any()):
        raise Wrong(
            f"{what}: expected a map of values below {values}, found {mask.shape} up to "
            f"{mask.max(initial=0)}"
        )


def _each(
    call: Callable[..., Any],
    argument_lists: Iterable[tuple[Any, ...]],
    what: str,
    values: int = 256,
) -> Iterator[Fact]:
    """Masks of the first few arguments."""
    for arguments in list(argument_lists)[:FEW]:
        mask = refused(call, *arguments)
        check_mask(mask, what, values)
        yield what, plain(mask)


def _spair(dataset: Any, ids: list[str]) -> Iterator[Fact]:  # noqa: ARG001
    pairs = plain(refused(dataset.pairs))
    check_finite(pairs, "pairs")
    yield "pairs", pairs


def _refcoco(dataset: Any, ids: list[str]) -> Iterator[Fact]:  # noqa: ARG001
    expressions = refused(dataset.expressions) or []
    yield "expressions", plain(expressions)
    yield from _each(dataset.object_mask, ((expression,) for expression in expressions), "mask", 2)


def _davis(dataset: Any, ids: list[str]) -> Iterator[Fact]:  # noqa: ARG001
    videos = refused(dataset.videos) or []
    yield "videos", plain(videos)
    for video in videos:
        for frame in video.frame_ids[:FEW]:
            yield "objects", plain(refused(dataset.objects, frame, video.n_objects))


def _pascal(dataset: Any, ids: list[str]) -> Iterator[Fact]:  # noqa: ARG001
    entries = refused(dataset.entries) or []
    yield "entries", plain(entries)
    yield "episodes", plain(refused(dataset.episodes, 3))
    yield from _each(dataset.label_map, ((entry.image_id,) for entry in entries), "label map")
    yield from _each(
        dataset.class_mask, ((entry.image_id, entry.class_id) for entry in entries), "mask", 2
    )


def _msrc(dataset: Any, ids: list[str]) -> Iterator[Fact]:  # noqa: ARG001
    groups = refused(dataset.groups) or {}
    yield "groups", plain(groups)
    yield from _each(
        dataset.group_mask, ((members[0], name) for name, members in groups.items()), "mask", 2
    )


def _imagenet_s(dataset: Any, ids: list[str]) -> Iterator[Fact]:
    yield "wnids", plain(refused(lambda: dataset.wnids))
    labelled = refused(dataset.labelled_ids) or []
    yield "labelled", plain(labelled)
    yield "class ids", [refused(dataset.class_id, image) for image in ids[:FEW]]
    for image in labelled[:FEW]:
        yield "label map", plain(refused(dataset.label_map, image))
    yield from _each(dataset.mask, ((image,) for image in labelled), "mask", 2)


def _bdd10k(dataset: Any, ids: list[str]) -> Iterator[Fact]:
    labelled = refused(dataset.labelled_ids) or []
    yield "labelled", plain(labelled)
    yield "domains", [refused(dataset.domain, image) for image in ids]
    yield from _each(dataset.label_map, ((image,) for image in labelled), "label map", 19)


def _coco(dataset: Any, ids: list[str]) -> Iterator[Fact]:
    for image in ids[:FEW]:
        instances = refused(dataset.instances, image) or ()
        yield "instances", plain(instances)
        check_finite([plain(instance.box_xyxy_px) for instance in instances], "box")
        for instance in instances:
            yield from _each(instance.mask, [()], "mask", 2)


def _questions(dataset: Any, ids: list[str]) -> Iterator[Fact]:  # noqa: ARG001
    yield "questions", plain(refused(dataset.questions))


TRUTHS: dict[str, Callable[[Any, list[str]], Iterator[Fact]]] = {
    "spair71k": _spair,
    "refcoco": _refcoco,
    "davis": _davis,
    "pascal5i": _pascal,
    "msrc": _msrc,
    "imagenet-s": _imagenet_s,
    "bdd10k": _bdd10k,
    "coco": _coco,
    "pope": _questions,
    "mme": _questions,
    "blink": _questions,
    "cvbench": _questions,
}
