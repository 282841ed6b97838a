"""Annotations of every data set, damaged: read as the same truth where they mean the same, else
left out or refused.
"""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.harmless import harmless_json, harmless_text
from tests.fuzz.kind import Kind
from tests.fuzz.mutate import hostile_bytes, hostile_value
from tests.fuzz.oracle import Wrong, refused
from tests.fuzz.places import copy_tree, damage_tree, files_of, odd_file, write
from tests.fuzz.truths import facts
from tests.support import datasets as builders

BUILDERS: dict[str, Callable[[Path], Any]] = {
    "spair71k": builders.spair,
    "refcoco": lambda root: (builders.refcoco(root), builders.captions(root)),
    "davis": builders.davis,
    "pascal5i": lambda root: builders.pascal(root, per_class=3),
    "msrc": builders.msrc7,
    "imagenet-s": builders.imagenet_s,
    "bdd10k": builders.bdd10k,
    "coco": builders.coco,
    "pope": builders.pope,
    "mme": builders.mme,
    "blink": builders.blink,
    "cvbench": builders.cvbench,
}
PROBED = ("spair71k", "refcoco", "davis", "pascal5i", "msrc", "imagenet-s", "bdd10k")
PICTURES = (".jpg", ".jpeg")
PICKLE_BOMBS = (
    b"Nr\xff\xff\xff\x7f.",  # a memo of 2^31 places
    b"\x80\x04\x8e" + (1 << 40).to_bytes(8, "little") + b"x.",
    b"\x80\x04\x8d" + (1 << 33).to_bytes(8, "little") + b"x.",
    b"\x80\x04\x95" + (1 << 50).to_bytes(8, "little") + b"N.",
    b"B\xff\xff\xff\x7fx.",
    b"\x8b\xff\xff\xff\x7fx.",
    b"cos\nsystem\n(S'true'\ntR.",
    b"(" * 100_000,
    b"]" + b"(" * 50_000 + b"l" * 50_000 + b".",
)


class Annotations(Kind):
    name = "annotations"
    share = 0.30

    def write_seeds(self) -> None:
        for name, build in BUILDERS.items():
            build(self.seeds / name / "data")
        for name in PROBED:
            _write_store(self.seeds / "stores" / name, name, self.seeds / name / "data")

    def open(self) -> None:
        import kvtool.tasks
        from kvtool.datasets import open_dataset

        self.expected = {n: facts(open_dataset(f"{n}:{self.seeds / n / 'data'}")) for n in BUILDERS}
        for task in kvtool.tasks.TASKS.names():
            kvtool.tasks.TASKS.load(task)

    def attempt(self, rng: random.Random, folder: Path) -> None:
        name = rng.choice(list(BUILDERS))
        copy_tree(self.seeds / name, folder / name)
        root = folder / name / "data"
        files = [path for path in files_of(root) if path.suffix.lower() not in PICTURES]
        if rng.random() < 0.1:
            return self._harmless(rng, name, root, files)
        if rng.random() < 0.4:
            files = [path for path in files if path.suffix not in (".png", ".bmp")] or files
        _damage(rng, files)
        _read(name, root)
        if name in PROBED and rng.random() < 0.12:
            copy_tree(self.seeds / "stores" / name, folder / "store")
            _probe(name, folder / "store", root)
        return None

    def _harmless(self, rng: random.Random, name: str, root: Path, files: list[Path]) -> None:
        """A change that no reader may see."""
        texts = [path for path in files if path.suffix in (".json", ".txt")]
        if not texts:
            return
        path = rng.choice(texts)
        change = harmless_json if path.suffix == ".json" else harmless_text
        write(path, change(rng, path.read_bytes()))
        records = _read(name, root)
        for expected, actual in zip(self.expected[name], records or [("open", None)], strict=False):
            if expected != actual:
                raise Wrong(
                    f"{name}: {path.relative_to(root)} means the same, {expected[0]} does not: "
                    f"{actual!r:.200}"
                )


def _damage(rng: random.Random, files: list[Path]) -> None:
    path = rng.choice(files)
    special = rng.random()
    if path.suffix == ".p" and special < 0.85:
        write(path, _hostile_pickle(rng, path.read_bytes()))
    elif path.suffix == ".parquet" and special < 0.6:
        _hostile_parquet(rng, path)
    elif special < 0.05:
        odd_file(rng, path)
    else:
        damage_tree(rng, files)


def _hostile_pickle(rng: random.Random, data: bytes) -> bytes:
    kind = rng.random()
    if kind < 0.1:
        return rng.choice(PICKLE_BOMBS)
    if kind < 0.3:
        return hostile_bytes(rng, data)
    value = pickle.loads(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        value = hostile_value(rng, value)
    protocol = rng.choice((0, 2, 4))
    try:
        return pickle.dumps(value, protocol=protocol)
    except RecursionError:  # nested more deeply than can be written: damage the bytes instead
        return hostile_bytes(rng, data)


def _hostile_parquet(rng: random.Random, path: Path) -> None:
    """Rows with changed values, or columns of another type or name, in a file that is whole."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.ParquetFile(path).read(use_threads=False)
    column = rng.randrange(table.num_columns)
    change = rng.random()
    if change < 0.15:
        table = table.drop_columns([table.column_names[column]])
    elif change < 0.25:
        table = table.rename_columns(
            [f"{n}2" if i == column else n for i, n in enumerate(table.column_names)]
        )
    elif change < 0.3:
        table = table.slice(0, 0)
    elif change < 0.4:
        table = table.append_column(table.schema.field(column), table.column(column))
    else:
        values = [hostile_value(rng, value) for value in table.column(column).to_pylist()]
        with_type = table.schema.field(column).type if rng.random() < 0.5 else None
        try:
            changed = pa.array(values, type=with_type)
        except (
            pa.ArrowException,
            ValueError,
            TypeError,
            OverflowError,
            RecursionError,
            UnicodeError,
        ):
            changed = pa.array(
                [repr(value)[:100].encode("ascii", "replace").decode() for value in values]
            )
        table = table.set_column(column, table.column_names[column], changed)
    path.unlink()
    pq.write_table(table, path, row_group_size=rng.choice((1, 2, 1000)))


def _read(name: str, root: Path) -> Any:
    from kvtool.datasets import open_dataset

    dataset = refused(open_dataset, f"{name}:{root}")
    return None if dataset is None else facts(dataset)


def _write_store(path: Path, name: str, root: Path) -> None:
    """A run over the pictures of a data set, of vectors that say nothing."""
    from kvtool.datasets import open_dataset
    from tests.support.units import noise, sample, write_run

    dataset = open_dataset(f"{name}:{root}")
    samples = [
        sample(ref.id, index, (32, 24), (3, 4)) for index, ref in enumerate(dataset.images())
    ]
    path.parent.mkdir(exist_ok=True)
    run = write_run(
        path,
        name,
        dataset.split,
        root,
        samples,
        noise(0),
        layers=1,
        kinds=("value",),
        part_size=200,
    )
    if texts := dataset.texts():
        run.commit_text(texts, np.ones((len(texts), 1, 2, 16), np.uint16))


def _probe(name: str, store: Path, root: Path) -> None:
    """Every task of the data set, scored over one head; numbers of a result are numbers."""
    import kvtool

    for task in _tasks(name):
        result = refused(kvtool.probe, store, task, heads=[0], data=root, device="cpu")
        if result is not None and not result.n:
            raise Wrong(f"probe {task}: a result of no unit")


def _tasks(name: str) -> tuple[str, ...]:
    from kvtool.datasets import DATASETS

    tasks: tuple[str, ...] = DATASETS.load(name).about.tasks
    return tasks
