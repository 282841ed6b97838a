"""The records of a data set of one's own: classes.json, and the lines of its four JSON lines files,
checked.

Each `*_of` takes one line's record and gives what it says, or raises a DatasetError without the
place, which `usable_lines` puts before it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from kvtool.datasets import values
from kvtool.datasets.base import Question
from kvtool.datasets.files import MAX_JSON_BYTES, read_text, split_lines
from kvtool.datasets.json_files import read_json
from kvtool.datasets.masks import VOID
from kvtool.datasets.names import brief
from kvtool.datasets.protocols import LabelConvention
from kvtool.errors import DatasetError
from kvtool.metrics.answers import parse_choice

Item = TypeVar("Item")
Point = tuple[float, float]
Box = tuple[float, float, float, float]
ImageOf = Callable[[Any], str]
"""The id of the picture that a record names. Raises DatasetError."""

GROUP = "all"
"""Of questions and pairs that name none."""


@dataclass(frozen=True)
class Classes:
    """What classes.json says.

    names: by id, without a gap from 0 or 1 on. void: marks pixels that do not count.
    """

    names: dict[int, str]
    void: int | None
    background: bool

    @property
    def convention(self) -> LabelConvention:
        """How label maps are given to tasks: void is 255, whatever the files have."""
        return LabelConvention(min(self.names), VOID, has_other=self.background)

    @property
    def ids(self) -> set[int]:
        """Those that a mask may have."""
        extra_ids = {0} if self.background else set()
        return {*self.names, *extra_ids} | (set() if self.void is None else {self.void})


def read_classes(path: Path) -> Classes:
    """classes.json. Raises DatasetError."""
    record = read_json(path)
    if not isinstance(record, dict) or not isinstance(record.get("names"), dict):
        raise DatasetError(
            f'{path}: expected {{"names": {{"1": "cat", ...}}}}, found {brief(record)}; see '
            "docs/datasets.md"
        )
    with values.at(str(path)):
        names = {
            values.whole(number, "an id of names"): name for number, name in record["names"].items()
        }
        names = {
            number: values.text(name, f"the name of id {number}")
            for number, name in sorted(names.items())
        }
        void, background = record.get("void", VOID), record.get("background", 0 not in names)
        _check_classes(names, void, background)
    return Classes(names, void, background)


def _check_classes(names: Mapping[int, str], void: Any, background: Any) -> None:
    """Raises DatasetError where ids have gaps, names repeat, or one id stands for two things."""
    first = min(names, default=0)
    if (
        not names
        or first > 1
        or max(names) >= VOID
        or list(names) != list(range(first, first + len(names)))
    ):
        raise DatasetError(
            "expected names of ids from 0 or 1 on without a gap, to 254, found "
            f"{brief(list(names), 40)}"
        )
    if len(set(names.values())) < len(names):
        raise DatasetError("expected a name of its own for each class, found one twice")
    if void is not None and (type(void) is not int or not 0 <= void <= VOID or void in names):
        raise DatasetError(f"expected void as an id of no class, or null, found {brief(void)}")
    if not isinstance(background, bool) or (background and (0 in names or void == 0)):
        raise DatasetError(
            "expected background true where id 0 is no class and not void, found "
            f"{brief(background)}"
        )


def usable_lines(
    path: Path, read: Callable[[int, dict[str, Any]], Item], left_out: list[str]
) -> Iterator[Item]:
    """Yield what `read(line number, record)` makes of each line of a JSON lines file, blank ones
    aside.

    A line that is no JSON object, or that cannot be used, is left out with its place and the
    reason. Raises DatasetError where the file cannot be read at all.
    """
    for number, line in enumerate(split_lines(read_text(path, MAX_JSON_BYTES)), 1):
        # Line numbers count blank lines, too, as an editor does.
        if not line.strip():
            continue
        try:
            with values.at(f"{path}: line {number}"):
                yield read(number, _parsed(line))
        except DatasetError as error:
            left_out.append(str(error))


def _parsed(line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"expected a JSON object, found: {brief(str(error), 100)}") from None
    if not isinstance(record, dict):
        raise DatasetError(f"expected a JSON object, found {brief(record)}")
    return record


@dataclass(frozen=True)
class Caption:
    """A text about a picture.

    line: where it stands. incorrect: a text that is wrong for the picture, "" for none.

    category, mask: the class, or the file of the mask, of what the text refers to in the picture,
    "" for none.
    """

    line: int
    image_id: str
    text: str
    incorrect: str = ""
    category: str = ""
    mask: str = ""

    @property
    def refers(self) -> bool:
        """Whether the caption says which pixels it speaks of."""
        return bool(self.category or self.mask)


def caption_of(line: int, record: dict[str, Any], image_of: ImageOf) -> Caption:
    """Return a line of captions.jsonl."""
    image_id, text = image_of(_given(record, "image")), _text(record, "caption")
    optional = {
        name: _text(record, name) for name in ("incorrect", "class", "mask") if name in record
    }
    if {"class", "mask"} <= optional.keys():
        raise DatasetError("expected a class or a mask, found both")
    mask = optional.get("mask", "")
    if mask.startswith("/") or ".." in mask.split("/") or "\0" in mask:
        raise DatasetError(
            f"expected mask as a file below the data set's folder, found {brief(mask)}"
        )
    return Caption(
        line, image_id, text, optional.get("incorrect", ""), optional.get("class", ""), mask
    )


def question_of(line: int, record: dict[str, Any], image_of: ImageOf) -> Question:
    """Return a line of questions.jsonl.

    Options get letters, and the answer is the letter of one: "(B)".
    """
    if ("image" in record) == ("images" in record):
        raise DatasetError("expected image, or images as a list, found both or neither")
    images = [record["image"]] if "image" in record else record["images"]
    if not isinstance(images, list) or not images:
        raise DatasetError(f"expected images as a list of ids, found {brief(images)}")
    text, answer = _text(record, "question"), _text(record, "answer")
    choices = record.get("choices", [])
    if not isinstance(choices, list) or len(choices) == 1 or len(choices) > 26:
        raise DatasetError(f"expected choices as a list of 2 to 26 texts, found {brief(choices)}")
    choices = [_text({"a choice": choice}, "a choice") for choice in choices]
    letters = [f"({chr(ord('A') + index)})" for index in range(len(choices))]
    prompt = text
    if choices:
        options = "\n".join(
            f"{letter} {choice}" for letter, choice in zip(letters, choices, strict=True)
        )
        prompt = f"{text} Select from the following choices.\n{options}"
        # The answer may be an option's text or its letter.
        right = (
            letters[choices.index(answer)] if answer in choices else parse_choice(answer, choices)
        )
        if not right:
            raise DatasetError(
                f"expected an answer that is one of the {len(choices)} choices, found "
                f"{brief(answer)}"
            )
        answer = right
    return Question(
        id=str(_named(record, "id", line)),
        image_ids=tuple(image_of(image) for image in images),
        text=text,
        prompt=prompt,
        answer=answer,
        group=str(_named(record, "group", GROUP)),
        choices=tuple(choices),
    )


@dataclass(frozen=True)
class PairRecord:
    """Line `line` of pairs.jsonl: of each of two pictures its keypoints by name, and where they are
    given its object's box and the picture's size.
    """

    line: int
    id: str
    category: str
    image_ids: tuple[str, str]
    points_px: tuple[dict[str, Point], dict[str, Point]]
    boxes_xyxy_px: tuple[Box, Box] | None
    sizes_wh_px: tuple[tuple[int, int], tuple[int, int]] | None


def pair_of(line: int, record: dict[str, Any], image_of: ImageOf) -> PairRecord:
    """Return a line of pairs.jsonl."""
    first, second = (image_of(image) for image in _two(record, "images"))
    # Correspondence goes by name, whatever order the two lists have.
    points = [_points(entry) for entry in _two(record, "keypoints")]
    if not points[0].keys() & points[1].keys():
        raise DatasetError("expected a keypoint that has the same name in both images, found none")
    boxes = (
        [values.box(entry, "a box") for entry in _two(record, "boxes")]
        if "boxes" in record
        else None
    )
    sizes = (
        [values.size(entry, "a size") for entry in _two(record, "sizes")]
        if "sizes" in record
        else None
    )
    return PairRecord(
        line=line,
        id=str(_named(record, "id", line)),
        category=str(_named(record, "category", GROUP)),
        image_ids=(first, second),
        points_px=(points[0], points[1]),
        boxes_xyxy_px=None if boxes is None else (boxes[0], boxes[1]),
        sizes_wh_px=None if sizes is None else (sizes[0], sizes[1]),
    )


def _points(value: Any) -> dict[str, Point]:
    if not isinstance(value, dict) or not value:
        raise DatasetError(f'expected keypoints as {{"name": [x, y], ...}}, found {brief(value)}')
    pairs = (
        (name, values.numbers(point, 2, f"keypoint {brief(name)}")) for name, point in value.items()
    )
    return {name: (x, y) for name, (x, y) in pairs}


def _two(record: dict[str, Any], name: str) -> list[Any]:
    value = _given(record, name)
    if not isinstance(value, list) or len(value) != 2:
        raise DatasetError(f"expected {name} as a list of two, found {brief(value)}")
    return value


def _given(record: dict[str, Any], name: str) -> Any:
    if name not in record:
        has = ", ".join(brief(key).strip("'") for key in list(record)[:6]) or "none"
        raise DatasetError(f"expected the field {name}, found {has}")
    return record[name]


def _text(record: dict[str, Any], name: str) -> str:
    value = values.text(_given(record, name), name)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DatasetError(
            f"expected {name} as Unicode text, found half of a pair in {brief(value)}"
        ) from None
    return value


def _named(record: dict[str, Any], name: str, default: str | int) -> str | int:
    """Return a short name, a text or a whole number."""
    value = record.get(name, default)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return _text({name: value}, name)
