"""Files that data sets consist of, written by hand: texts, JSON, pictures, label maps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
from PIL import Image

Array = np.ndarray[Any, Any]


def write_text(path: Path, text: str) -> Path:
    """Exactly these characters: no translation of line ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def write_json(path: Path, value: Any) -> Path:
    return write_text(path, json.dumps(value))


def picture(path: Path, width: int = 32, height: int = 24, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def label_png(path: Path, labels: Array, palette: bool = True) -> Path:
    """An indexed PNG as VOC and DAVIS have them, or a plain grey one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels.astype(np.uint8))
    if palette:
        image.putpalette([(37 * i + c * 91) % 256 for i in range(256) for c in range(3)])
    image.save(path)
    return path


def id_png(path: Path, ids: Array) -> Path:
    """ImageNet-S's RGB PNG: id = R + 256 G."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rgb = np.stack([ids % 256, ids // 256, np.zeros_like(ids)], axis=-1).astype(np.uint8)
    Image.fromarray(rgb).save(path)
    return path


def golden(name: str, target: Path) -> Path:
    """Unpack one of the golden trees."""
    with ZipFile(Path(__file__).parents[2] / "golden" / name) as archive:
        archive.extractall(target)
    return target


def colour_bmp(path: Path, colours: Array) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(colours.astype(np.uint8)).save(path)
    return path


def json_lines(path: Path, records: Sequence[Any]) -> Path:
    return write_text(path, "".join(json.dumps(record) + "\n" for record in records))
