"""kvtool knockout against transformers' generate on each question's whole prompt: nothing shared,
one at a time.

500 images x 18 questions of POPE's shape x 4 conditions, in float32. Ours is everything from
pictures to scores: extraction into a new store, loading the weights, answers written image by
image. The peer answers a sample of the questions, in turns with ours, its weights loaded and its
pixels prepared before; a knockout would cost it no less than its plain attention does.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from tests.bench.rows import Row, row

IMAGES = 500
SAMPLED = 150
"""Questions that the peer answers."""
HEADS = [(0, 0), (1, 1), (6, 0), (7, 1)]
"""Early and late: with none and chosen, four conditions."""
MAX_NEW_TOKENS = 8
TARGET = 8.0


def bench(n_images: int = IMAGES) -> list[Row]:
    from kvtool.demo.layouts import write_scenes
    from tests.bench.bench_capture import demo_or_random

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        write_scenes(path / "scenes", size="medium", only=["pope"])
        name = demo_or_random(path / "model")
        spec = f"pope:{repeated(path / 'scenes', path / 'pope', n_images)}"
        peer = Peer(name, spec, n_images)
        started = time.perf_counter()
        result, answers = ours(path / "s.kv", name, spec, n_images, peer)
        ours_s = time.perf_counter() - started - peer.seconds
    n_asked = result.n * len(result.config["conditions"])
    n_equal = sum(answers[key] == answer for key, answer in peer.answers.items())
    shape = f"{n_images} images, {result.n} questions, 4 conditions"
    n = len(peer.answers)
    return [
        row(f"knockout, {shape}", "answers/s", n_asked / ours_s, n / peer.seconds, TARGET),
        row(f"knockout: answers equal to generate's, of {n}", "answers", n_equal, n, 1.0),
    ]


def repeated(scenes: Path, folder: Path, n_images: int) -> Path:
    """The questions and pictures of scenes, taken again under other names until there are enough
    images.
    """
    by_image: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for file in sorted((scenes / "pope").glob("*.json")):
        for line in file.read_text().splitlines():
            record = json.loads(line)
            by_image.setdefault(record["image"], {}).setdefault(file.name, []).append(record)
    (folder / "val2014").mkdir(parents=True)
    names = list(by_image)
    for index in range(n_images):
        source = names[index % len(names)]
        name = f"{index:06d}.jpg"
        shutil.copy(scenes / "coco" / "val2014" / source, folder / "val2014" / name)
        for file_name, records in by_image[source].items():
            with (folder / file_name).open("a") as out:
                out.writelines(json.dumps({**record, "image": name}) + "\n" for record in records)
    return folder


def ours(
    store: Path, model: str, spec: str, n_images: int, peer: Peer
) -> tuple[Any, dict[tuple[str, str], str]]:
    """The whole command; its result, and what it answered without knockout.

    The peer is let in between images.
    """
    import kvtool

    def progress(n: int, _note: str, _total: int | None = None) -> None:
        if n:
            peer.answer_next()

    kvtool.extract(
        store, model=model, dataset=spec, kinds=("key", "value"), dtype="float32", limit=n_images
    )
    options: dict[str, Any] = {"limit": n_images, "max_new_tokens": MAX_NEW_TOKENS, "device": "cpu"}
    file = store.with_suffix(".jsonl")
    result = kvtool.knockout(store, spec, HEADS, answers=file, progress=progress, **options)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    plain = [line for line in lines if line["condition"] == "none"]
    return result, {(line["image"], line["question_id"]): line["answer"] for line in plain}


class Peer:
    """transformers' greedy answers to a question of every few images, each from its whole
    prompt.
    """

    def __init__(self, name: str, spec: str, n_images: int) -> None:
        from kvtool.asking.benchmarks import open_benchmark
        from kvtool.models import load_model
        from kvtool.models.families.llava import Llava

        model = load_model(name, dtype="float32")
        assert isinstance(model, Llava)
        self.model = model
        benchmark: Any = open_benchmark(spec)[1]
        refs = {ref.id: ref for ref in benchmark.images()[:n_images]}
        questions = [
            question for question in benchmark.questions() if question.image_ids[0] in refs
        ]
        step = max(1, len(questions) // SAMPLED)
        self.todo = [
            (question, self.inputs(question, refs[question.image_ids[0]]))
            for question in questions[::step]
        ]
        self.every = max(1, n_images // len(self.todo))
        self.calls = 0
        self.seconds = 0.0
        self.answers: dict[tuple[str, str], str] = {}

    def inputs(self, question: Any, ref: Any) -> dict[str, Any]:
        """The whole prompt and its pixels; laying them out is not counted."""
        from kvtool.datasets.images import load_image
        from tests.bench.bench_capture import transformers_inputs

        inputs = transformers_inputs(
            self.model, [self.model.prepare(load_image(ref), id=ref.id, index=0)]
        )
        text = torch.tensor([self.model.prompt.text_ids(self.model.question(question.prompt))])
        inputs["input_ids"] = torch.cat([inputs["input_ids"], text], dim=1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        return inputs

    def answer_next(self) -> None:
        """One more question, now and then."""
        self.calls += 1
        if self.calls % self.every or not self.todo:
            return
        question, inputs = self.todo.pop()
        started = time.perf_counter()
        with torch.inference_mode():
            ids = self.model.net.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
        self.seconds += time.perf_counter() - started
        answer = self.model.prompt.tokenizer.decode(
            ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )
        self.answers[question.image_ids[0], question.id] = answer.strip()


if __name__ == "__main__":
    for result in bench(int(sys.argv[1]) if len(sys.argv) > 1 else IMAGES):
        print(result)
