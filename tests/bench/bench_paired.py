"""kvtool paired from a store against transformers' generate on each question's whole prompt, its
pictures from disk.

BLINK's art style: three pictures a question, in float32. Ours is the whole call: loading the
weights, every answer kept, the values of every block scored. The peer's weights are loaded before;
it decodes and preprocesses three pictures, runs the tower and the prompt, one question at a time,
in turns with ours.

Square pictures stand in the store as they stand in a prompt of several; others are padded there,
as transformers pads them, so that their pixels run through the tower again on both sides.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from tests.bench.rows import Row, row

MAX_NEW_TOKENS = 8


def bench() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        return [
            *compared(Path(folder) / "square", "square pictures", True, 2.0),
            *compared(Path(folder) / "padded", "padded pictures", False, 1.0),
        ]


def compared(folder: Path, name: str, square: bool, target: float) -> list[Row]:
    """The rate of both sides, and how many answers are equal."""
    import kvtool
    from tests.bench.bench_capture import demo_or_random

    model = demo_or_random(folder / "model")
    spec = f"blink:{scenes(folder / 'scenes', square) / 'blink' / 'Art_Style'}@val"
    kvtool.extract(folder / "s.kv", model=model, dataset=spec, dtype="float32")
    peer = Peer(model, spec)
    started = time.perf_counter()
    result = kvtool.paired(
        folder / "s.kv",
        "art-style",
        max_new_tokens=MAX_NEW_TOKENS,
        device="cpu",
        progress=peer.keep_up,
    )
    ours_s = time.perf_counter() - started - peer.seconds
    peer.keep_up(result.n, "answers")
    n = result.n
    n_equal = sum(peer.answers[item["id"]] == item["answer"] for item in result.items)
    label = f"paired, {n} questions of three {name}"
    return [
        row(label, "questions/s", n / ours_s, n / peer.seconds, target),
        row(f"{label}: answers equal to generate's", "answers", n_equal, n, 1.0),
    ]


def scenes(folder: Path, square: bool) -> Path:
    """BLINK of the embedded world; with `square`, the middle of each picture alone."""
    from kvtool.demo.layouts import write_scenes
    from kvtool.demo.layouts.parquet import embedded

    def middle(image: Any, name: str) -> Any:
        """The cell of a picture's middle."""
        side = min(image.shape[:2]) if square else max(image.shape[:2])
        top, left = (max(0, (length - side) // 2) for length in image.shape[:2])
        return embedded(np.ascontiguousarray(image[top : top + side, left : left + side]), name)

    with patch("kvtool.demo.layouts.blink.embedded", middle):
        write_scenes(folder, size="medium", only=["blink"])
    return folder


class Peer:
    """transformers' greedy answers, each from the bytes of its pictures."""

    def __init__(self, name: str, spec: str) -> None:
        from kvtool.datasets import open_dataset, parse_spec
        from kvtool.models import load_model
        from kvtool.models.families.llava import Llava

        model = load_model(name, dtype="float32")
        assert isinstance(model, Llava)
        self.model = model
        dataset: Any = open_dataset(parse_spec(spec))
        self.refs = {ref.id: ref for ref in dataset.images()}
        self.todo = dataset.questions()
        self.seconds = 0.0
        self.answers: dict[str, str] = {}

    def keep_up(self, n: int, note: str = "", _total: int | None = None) -> None:
        """As many questions as ours has just answered."""
        questions = self.todo[: n if note == "answers" else 0]
        self.todo = self.todo[len(questions) :]
        started = time.perf_counter()
        for question in questions:
            self.answers[question.id] = self.answer(question)
        self.seconds += time.perf_counter() - started

    def answer(self, question: Any) -> str:
        inputs = self.inputs(question)
        with torch.inference_mode():
            ids = self.model.net.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
        new: str = self.model.prompt.tokenizer.decode(
            ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )
        return new.strip()

    def inputs(self, question: Any) -> dict[str, Any]:
        """The whole prompt and its pixels: base views, as transformers takes several images."""
        from kvtool.datasets.images import load_image

        model, n_images = self.model, len(question.image_ids)
        items = [
            model.prepare_several(load_image(self.refs[image]), id=image, index=0)
            for image in question.image_ids
        ]
        ids: list[int] = []
        for before, item in zip(model.prompt.several_ids(n_images), items, strict=True):
            ids += [*before, *[model.prompt.image_id] * (item.sample.n_tokens + 1)]
        ids += model.prompt.text_ids(model.prompt.question(question.prompt, n_images))
        input_ids = torch.tensor([ids])
        return {
            "input_ids": input_ids,
            "attention_mask": torch.ones_like(input_ids),
            "pixel_values": torch.stack([item.tensors["pixels"] for item in items]),
            "image_sizes": torch.tensor([item.sample.image_wh_px[::-1] for item in items]),
            "batch_num_images": torch.tensor([n_images]),
        }


if __name__ == "__main__":
    for result in bench():
        print(result)
