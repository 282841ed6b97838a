"""Multiple-choice questions with their images as parquet files, as on the Hugging Face hub."""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from kvtool.demo.layouts.files import JPEG_QUALITY
from kvtool.demo.questions import SELECT, SceneQuestion

FEATURES: dict[str, dict[str, Any]] = {
    "image": {"_type": "Image"},
    "string": {"dtype": "string", "_type": "Value"},
    "int64": {"dtype": "int64", "_type": "Value"},
    "strings": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "Sequence"},
    "boxes": {
        "feature": {"feature": {"dtype": "float64", "_type": "Value"}, "_type": "Sequence"},
        "_type": "Sequence",
    },
}


@dataclass(frozen=True)
class ChoiceRecord:
    """A question with its options; the answer is the letter in brackets."""

    question: str
    options: tuple[str, ...]
    answer: str

    @property
    def prompt(self) -> str:
        """The question, the request to select, and an option a line, as in the benchmarks."""
        listed = "\n".join(
            f"({letter}) {option}" for letter, option in zip("ABCD", self.options, strict=False)
        )
        return f"{self.question} {SELECT}\n{listed}"


def as_choice(question: SceneQuestion) -> ChoiceRecord:
    """Take a multiple-choice question of the world apart again."""
    text, _, listed = question.text.partition(f" {SELECT} ")
    options = re.split(r" ?\([A-D]\) ", listed)[1:]
    return ChoiceRecord(text, tuple(options), question.answer)


def embedded(image: npt.NDArray[np.uint8], name: str) -> dict[str, Any]:
    """Return an image's cell: JPEG bytes of (H, W, 3), and the file name they would have."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return {"bytes": buffer.getvalue(), "path": name}


def save_table(path: Path, columns: dict[str, str], rows: list[dict[str, Any]]) -> None:
    """Write rows under typed columns, name -> key of FEATURES.

    The schema carries the features for the library `datasets`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {
        "image": pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
        "string": pa.string(),
        "int64": pa.int64(),
        "strings": pa.list_(pa.string()),
        "boxes": pa.list_(pa.list_(pa.float64())),
    }
    features = {name: FEATURES[kind] for name, kind in columns.items()}
    schema = pa.schema(
        [(name, kinds[kind]) for name, kind in columns.items()],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
