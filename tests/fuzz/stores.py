"""Damaged stores: what was stored is read as it was or refused, verify tells, other runs stay,
removal works.
"""

from __future__ import annotations

import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.fuzz.kind import Kind
from tests.fuzz.mutate import hostile_bytes, hostile_value
from tests.fuzz.oracle import Finding, Lost, Wrong, refused
from tests.fuzz.places import copy_tree, files_of, odd_file, write
from tests.fuzz.truths import plain

RUNS = ("a", "b")
IMAGES = 7
FOREIGN = ("locks", "tmp")
"""Folders of which verify and readers owe nothing."""


class Stores(Kind):
    name = "stores"
    share = 0.14

    def write_seeds(self) -> None:
        import numpy as np

        from tests.support.runs import commit, config, create_run, ragged
        from tests.support.runs import new_store as make

        store = make(self.seeds)
        for name in RUNS:
            run = create_run(store, config(name=name, prefix=f"text:{name}"))
            images = [ragged(index) for index in range(IMAGES)]
            for start in range(0, IMAGES, 3):
                commit(run, images[start : start + 3])
            run.commit_text(["cat", "dog"], np.ones((2, 2, 2, 8), np.uint16))
        store.save_result("k1", {"schema": "kvtool.result/1", "rows": [{"x": 1.0}]})
        store.keep_pictures("p1", [("one.png", b"picture"), ("two.png", b"another")])

    def open(self) -> None:
        import kvtool
        import kvtool.store.verify

        store = kvtool.open(self.seeds / "tiny.kv")
        self.expected = {name: contents(store, name) for name in RUNS}
        self.result = store.load_result("k1")
        if problems := kvtool.store.verify.verify(store):
            raise RuntimeError(f"the seeds are not whole: {problems[0]}")

    def attempt(self, rng: random.Random, folder: Path) -> None:
        copy_tree(self.seeds / "tiny.kv", folder / "tiny.kv")
        changed, sealed_again = self._damage(rng, folder / "tiny.kv")
        self._use(folder / "tiny.kv", changed, sealed_again)

    def _damage(self, rng: random.Random, root: Path) -> tuple[Path, bool]:
        """One file of the store made hostile: which, and whether its seal is right again."""
        files = [
            path for path in files_of(root) if not set(path.relative_to(root).parts) & set(FOREIGN)
        ]
        path = rng.choice(
            [path for path in files if path.name == "zarr.json"] if rng.random() < 0.6 else files
        )
        before = path.read_bytes()
        kind = rng.random()
        if kind < 0.08:
            odd_file(rng, path)
            return path, False
        if kind < 0.55 and b"kvtool_crc32c" in before:
            write(path, hostile_record(rng, before))
            return path, True
        while (after := hostile_bytes(rng, before)) == before:
            pass
        write(path, after)
        return path, False

    def _use(self, root: Path, changed: Path, sealed_again: bool) -> None:
        import kvtool
        from kvtool.store.verify import verify

        store = refused(kvtool.open, root)
        inside = changed.relative_to(root).parts
        if store is None:
            if inside != ("zarr.json",):
                raise Lost(f"{'/'.join(inside)} alone is damaged, and the store cannot be opened")
            return
        run_of_damage = inside[1] if inside[0] == "runs" and len(inside) > 2 else ""
        for name in RUNS:
            self._check_run(
                store, name, damaged=name == run_of_damage, same_values=not sealed_again
            )
        result = refused(store.load_result, "k1")
        if result != self.result and not (
            inside[0] == "results" and (sealed_again or result is None)
        ):
            raise Lost(f"{'/'.join(inside)} is damaged, and the kept result reads {result!r:.100}")
        refused(store.info)
        list(store.results())
        if not verify(store) and not sealed_again:
            raise Wrong(f"verify finds no problem in a damaged {'/'.join(inside)}")
        mend(store)
        self._remove(store, inside)

    def _check_run(self, store: Any, name: str, damaged: bool, same_values: bool) -> None:
        arrays = contents(store, name)
        if not damaged and arrays != self.expected[name]:
            raise Lost(f"run {name} is whole, and cannot be read beside a damaged one")
        for (what, expected), (_, actual) in zip(self.expected[name], arrays, strict=True):
            if (
                damaged
                and same_values
                and actual is not None
                and actual != expected
                and what not in ("info", "parts")
            ):
                raise Wrong(f"run {name}: {what} is not what was stored")

    def _remove(self, store: Any, inside: tuple[str, ...]) -> None:
        for name in RUNS:
            if not (store.path / "runs" / name).is_dir():
                continue
            try:
                store.remove_run(name)
            except Exception as error:
                raise Finding(
                    f"run {name} cannot be removed: {type(error).__name__}, {'/'.join(inside)}"
                ) from error


def contents(store: Any, name: str) -> list[tuple[str, Any]]:
    """All that can be read of a run; None where the package refused."""
    run: Any = refused(store.run, name)
    calls = {
        "info": lambda: run.info(),
        "samples": lambda: run.samples,
        "ids": lambda: run.ids,
        "parts": lambda: [part.name for part in run.parts()],
        "covered": lambda: sorted(run.covered_indices()),
        "texts": lambda: run.text_names,
        "text values": lambda: run.text_values(1, 0, raw=True),
        "key": lambda: run.read("key", 1, 0, raw=True).values,
        "value": lambda: run.read("value", 3, 1).values.tobytes(),
        "projected": lambda: run.read("projected", 0, 0, raw=True).values,
        "vision": lambda: [
            (layer, block.values) for layer, block in run.stream("vision", raw=True)
        ],
        "image": lambda: run.read_image("image4", raw=True),
    }
    return [(what, None if run is None else plain(refused(call))) for what, call in calls.items()]


def hostile_record(rng: random.Random, data: bytes) -> bytes:
    """A sealed document of other content, under a right seal; a run's under a right hash where it
    has one.
    """
    from kvtool.store.manifest import RunConfig
    from kvtool.store.sealed import SEAL, UNSEALED, sealed

    document = json.loads(data)
    key = "attributes" if "attributes" in document else "result"
    value = document.get(key)
    if isinstance(value, dict):
        value.pop(SEAL, None)
    for _ in range(rng.choice((1, 1, 2))):
        value = hostile_value(rng, value)
    if isinstance(value, dict) and isinstance(value.get("config"), dict) and rng.random() < 0.8:
        with suppress(Exception):  # it is hostile; its old hash stays
            value["hash"] = RunConfig.from_json(value["config"]).hash
    document.pop(SEAL, None)
    if key == "attributes" and isinstance(value, dict):
        return sealed({**document, "attributes": {SEAL: UNSEALED, **value}})
    return sealed({SEAL: UNSEALED, **document, key: value})


def mend(store: Any) -> None:
    """Repair and prune, which may find nothing to do and must not fail over damage."""
    for name in ("repair", "prune"):
        if (call := getattr(store, name, None)) is not None:
            refused(call)
