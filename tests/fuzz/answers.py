"""Files that users give and results that a store keeps: prefixes, answers to score, heads, lists of
pictures.
"""

from __future__ import annotations

import io
import json
import random
import shutil
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from kvtool.types import Kind as VectorKind
from tests.fuzz.harmless import harmless_json, harmless_text
from tests.fuzz.kind import Kind
from tests.fuzz.mutate import hostile_json, hostile_text, hostile_value
from tests.fuzz.oracle import Wrong, refused
from tests.fuzz.places import copy_tree, damage_tree, files_of, odd_file, write
from tests.fuzz.truths import check_finite
from tests.support import datasets as builders

SPAIR_LINES = 6
SCORED: dict[str, Callable[[Path], dict[str, Any]]] = {
    "spair": lambda root: {"answers": root / "answers.jsonl"},
    "pope": lambda root: {"answers": [root / "a.json", root / "b.json"]},
    "mme": lambda root: {"answers": root / "answers"},
    "davis": lambda root: {"data": root / "data", "results": root / "results"},
    "imagenet-s": lambda root: {"data": root / "data", "results": root / "results", "classes": 50},
    "bdd10k": lambda root: {"data": root / "data", "results": root / "results"},
}


class Answers(Kind):
    name = "answers"
    share = 0.16

    def write_seeds(self) -> None:
        _write_answers(self.seeds)
        _write_maps(self.seeds)
        _write_lists(self.seeds)
        _write_results(self.seeds / "results")

    def open(self) -> None:
        import kvtool
        import kvtool.reporting.collect
        from kvtool.engine import prefixes  # noqa: F401
        from kvtool.types import Geometry

        self.geometry = Geometry(5, 4, 2, 8, 12, 3, 6)
        self.ways = (
            self._scores,
            self._scores,
            self._scores,
            self._prefix,
            self._heads,
            self._listed,
            self._results,
        )
        self.expected = {
            name: _rows(kvtool.score(name, **options(self.seeds / name)))
            for name, options in SCORED.items()
        }

    def attempt(self, rng: random.Random, folder: Path) -> None:
        rng.choice(self.ways)(rng, folder)

    def _scores(self, rng: random.Random, folder: Path) -> None:
        import kvtool

        name = rng.choice(list(SCORED))
        copy_tree(self.seeds / name, folder / name)
        root = folder / name
        results = root / "results"
        files = files_of(results if results.is_dir() and rng.random() < 0.7 else root)
        files = [path for path in files if path.suffix.lower() not in (".jpg", ".jpeg")]
        harmless = rng.random() < 0.15 and name in ("spair", "pope", "mme")
        if harmless:
            path = rng.choice(files)
            change = harmless_text if path.suffix == ".txt" else harmless_lines
            write(path, change(rng, path.read_bytes()))
        else:
            damage_tree(rng, files)
        result = refused(kvtool.score, name, **SCORED[name](root))
        if result is None and not harmless:
            return
        rows = None if result is None else _rows(result)
        check_finite(rows, f"score {name}")
        if harmless and rows != self.expected[name]:
            raise Wrong(f"score {name}: {path.name} means the same, and scores {rows!r:.200}")

    def _prefix(self, rng: random.Random, folder: Path) -> None:
        from kvtool.datasets.base import ImageRef
        from kvtool.engine.prefixes import prefix_texts, read_texts

        path = folder / "prefix.csv"
        seed = (self.seeds / "lists" / "prefix.csv").read_bytes()
        harmless = rng.random() < 0.15
        path.write_bytes((harmless_text if harmless else hostile_text)(rng, seed))
        if rng.random() < 0.05 and not harmless:
            odd_file(rng, path)
        texts = refused(read_texts, str(path))
        if harmless and texts != {"a": "a cat", "b": "two, dogs", "c": 'said "no"'}:
            raise Wrong(f"prefix file means the same, and says {texts!r:.200}")
        refused(prefix_texts, f"file:{path}", None, [ImageRef(name, Path(name)) for name in "abc"])

    def _heads(self, rng: random.Random, folder: Path) -> None:
        from kvtool.asking.heads import head_set, read_rows

        path = folder / "heads.jsonl"
        path.write_bytes(hostile_json(rng, (self.seeds / "lists" / "heads.jsonl").read_bytes()))
        if rng.random() < 0.05:
            odd_file(rng, path)
        rows = refused(read_rows, str(path))
        if rows is not None:
            refused(head_set, rows, self.geometry, str(path))

    def _listed(self, rng: random.Random, folder: Path) -> None:  # noqa: ARG002
        from kvtool.datasets import open_dataset
        from kvtool.datasets.images import load_image

        data = hostile_text(rng, (self.seeds / "lists" / "names.txt").read_bytes())
        with standard_input(data):
            dataset = refused(open_dataset, "folder:-")
            images = None if dataset is None else refused(dataset.images)
        for ref in (images or ())[:5]:
            refused(load_image, ref)

    def _results(self, rng: random.Random, folder: Path) -> None:
        import kvtool
        from kvtool.reporting.emit import emit
        from kvtool.result import FORMATS, Result
        from kvtool.store.layout import entries
        from kvtool.store.sealed import SEAL, UNSEALED, sealed

        copy_tree(self.seeds / "results", folder / "store")
        path = rng.choice(entries(folder / "store" / "results"))
        result = json.loads(path.read_bytes())["result"]
        for _ in range(rng.choice((1, 1, 2, 4))):
            result = hostile_value(rng, result)
        write(path, sealed({SEAL: UNSEALED, "result": result}))
        store = kvtool.open(folder / "store")
        record = refused(store.load_result, path.stem)
        restored = None if record is None else refused(Result.from_json, record)
        for format in FORMATS if restored is not None else ():
            refused(emit, restored, format, io.StringIO())
        refused(kvtool.report, store, folder / "page.html", examples=0, device="cpu")


@contextmanager
def standard_input(data: bytes) -> Any:
    """Bytes as this process's standard input."""
    stream, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(data))
    try:
        yield
    finally:
        sys.stdin = stream


def harmless_lines(rng: random.Random, data: bytes) -> bytes:
    """The same records: line ends and mark, or each record's members in another order."""
    if rng.random() < 0.5:
        return harmless_text(rng, data)
    lines = [harmless_json(random.Random(0), line) for line in data.splitlines()]
    return b"".join(
        line.replace(b"\xef\xbb\xbf", b"").replace(b"\n", b" ") + b"\n" for line in lines
    )


def _rows(result: Any) -> list[Any]:
    return [list(row.items()) for row in result.to_json()["rows"]]


def _write_answers(seeds: Path) -> None:
    lines = []
    for number in range(SPAIR_LINES):
        record = builders.pair_record("a", "b", "dog" if number % 2 else "cat")
        lines.append(json.dumps({**record, "prd_kps": [[6.5, 7.0], [11.0, 20.0]]}))
    builders.write_text(seeds / "spair/answers.jsonl", "\n".join(lines) + "\n")
    for name in ("a", "b"):
        records = [{"answer": "Yes, there is.", "label": "yes"}, {"answer": "no", "label": "no"}]
        builders.write_text(
            seeds / f"pope/{name}.json", "".join(json.dumps(r) + "\n" for r in records * 3)
        )
    for subset in ("count", "color"):
        line = (
            "{}.jpg\tIs it a? Please answer yes or no.\tYes\tyes\n"
            "{}.jpg\tIs it b?\tNo\tyes, it is\n"
        )
        builders.write_text(
            seeds / f"mme/answers/{subset}.txt", "".join(line.format(i, i) for i in range(3))
        )


def _write_maps(seeds: Path) -> None:
    from kvtool.datasets.masks import read_label_map

    builders.davis(seeds / "davis/data")
    for path in files_of(seeds / "davis/data/Annotations/480p"):
        labels = read_label_map(path)
        builders.label_png(
            seeds / "davis/results" / path.parent.name / path.name,
            np.where(labels == 255, 0, labels),
        )
    builders.imagenet_s(seeds / "imagenet-s/data")
    shutil.copytree(
        seeds / "imagenet-s/data/ImageNetS50/validation-segmentation", seeds / "imagenet-s/results"
    )
    builders.bdd10k(seeds / "bdd10k/data")
    shutil.copytree(seeds / "bdd10k/data/labels/sem_seg/masks/val", seeds / "bdd10k/results")


def _write_lists(seeds: Path) -> None:
    text = 'image,text\na,a cat\nb,"two, dogs"\nc,"said ""no"""\n'
    builders.write_text(seeds / "lists/prefix.csv", text)
    heads = [
        {"kind": "key", "layer": i % 5, "kv_head": i % 2, "input_agnostic": i < 3} for i in range(8)
    ]
    builders.write_text(
        seeds / "lists/heads.jsonl", "".join(json.dumps(row) + "\n" for row in heads)
    )
    names = [str(builders.picture(seeds / f"lists/{name}.png")) for name in "abc"]
    builders.write_text(seeds / "lists/names.txt", "\n".join(names) + "\n")


def _write_results(path: Path) -> None:
    """A store with what probe, variance and search keep of a small run."""
    import kvtool
    from kvtool.datasets import open_dataset
    from tests.support.units import noise, sample, write_run

    data = path.parent / "spair" / "data"
    builders.spair(data)
    refs = open_dataset(f"spair71k:{data}").images()
    samples = [sample(ref.id, index, (32, 24), (3, 4)) for index, ref in enumerate(refs)]
    kinds: tuple[VectorKind, ...] = ("key", "value", "vision")
    run = write_run(
        path, "spair71k", "test", data, samples, noise(0), layers=2, kinds=kinds, name="tiny"
    )
    run.commit_text(["dog", "cat"], np.ones((2, 2, 2, 16), np.uint16))
    kvtool.probe(run, "semantic-correspondence", data=data, device="cpu")
    kvtool.variance(run)
