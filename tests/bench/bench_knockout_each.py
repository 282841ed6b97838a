"""`kvtool knockout --each` against one knockout a head: questions of POPE's shape and a decoder of
24 layers with eight KV heads each, narrow and with random weights; whole calls in one process, with
loading the weights, in float32.

One knockout a head is measured for a sample of the heads and counted for all of them; that it
writes a single token and finds the answers without a knockout in the store is in its favor.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.bench.rows import Row, row

IMAGES = 8
SAMPLED = 3
SHAPE: dict[str, Any] = {
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "hidden_size": 256,
    "intermediate_size": 512,
}
TARGET = 20.0


def bench(n_images: int = IMAGES) -> list[Row]:
    import kvtool
    from tests.support.planted import planted_pope
    from tests.support.tiny import llava_next

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        name = str(llava_next(path / "model", **SHAPE))
        spec = f"pope:{planted_pope(path / 'pope', n_images)}"
        store = path / "s.kv"
        options: dict[str, Any] = {"limit": n_images, "max_new_tokens": 1, "device": "cpu"}
        kvtool.extract(
            store,
            model=name,
            dataset=spec,
            kinds=("key", "value"),
            dtype="float32",
            limit=n_images,
        )
        started = time.perf_counter()
        result = kvtool.knockout(store, spec, each_head=True, **options)
        each_s = time.perf_counter() - started
        rows = result.rows[:: max(1, len(result.rows) // SAMPLED)]
        # The first run also answers without a knockout, which serves all: it is not counted.
        kvtool.knockout(store, spec, [(0, 1), (0, 2)], **options)
        n_equal = 0
        started = time.perf_counter()
        for entry in rows:
            head = (entry["layer"], entry["kv_head"])
            single = kvtool.knockout(store, spec, [head], **options)
            (condition, *_) = [line for line in single.rows if line["condition"] == "chosen"]
            n_equal += abs(condition["accuracy"] - entry["accuracy"]) < 0.01
        single_s = (time.perf_counter() - started) / len(rows)
    n_heads = len(result.rows)
    shape = f"{n_heads} heads, {result.n} questions"
    return [
        row(f"knockout --each, {shape}", "heads/s", n_heads / each_s, 1 / single_s, TARGET),
        row(f"knockout --each: accuracies equal, of {len(rows)}", "heads", n_equal, len(rows), 1.0),
    ]


if __name__ == "__main__":
    for line in bench(int(sys.argv[1]) if len(sys.argv) > 1 else IMAGES):
        print(line)
