"""`kvtool knockout --each` against one knockout a head: questions of POPE's shape and a decoder of
24 layers with eight KV heads each, narrow and with random weights; whole calls in one process, with
loading the weights, in float32, by the processor's time.

One knockout a head is measured for a sample of the heads and counted for all of them; that it
writes a single token and finds the answers without a knockout in the store is in its favor.

Of the work little more than half can be left out: a blocked head changes every layer above it, on
average half of them, and of the text what questions begin with alike runs once. The last row counts
it. What is faster beyond that is many rows at once in place of passes of a few tokens, and weights
that are loaded once; so the ratio falls as the decoder gets wider.
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
        options: dict[str, Any] = {"limit": n_images, "device": "cpu"}
        kvtool.extract(
            store,
            model=name,
            dataset=spec,
            kinds=("key", "value"),
            dtype="float32",
            limit=n_images,
        )
        # What is imported once is no side's.
        kvtool.knockout(store, spec, each_head=True, **options | {"limit": 1}, layers=[0])
        started = time.process_time()
        result = kvtool.knockout(store, spec, each_head=True, **options)
        each_s = time.process_time() - started
        single_s, n_equal, n_single = one_run_a_head(
            result, store, spec, options | {"max_new_tokens": 1}
        )
        share = work(name, spec)
    n_heads = len(result.rows)
    shape = f"{n_heads} heads, {result.n} questions"
    return [
        row(f"knockout --each, {shape}", "heads/s", n_heads / each_s, 1 / single_s, TARGET),
        row(f"knockout --each: accuracies equal, of {n_single}", "heads", n_equal, n_single, 1.0),
        row(
            "knockout --each: work that is left, by arithmetic",
            "token-layers",
            *share,
            0.5,
            "lower",
        ),
    ]


def one_run_a_head(
    result: Any, store: Path, spec: str, options: dict[str, Any]
) -> tuple[float, int, int]:
    """Run a knockout for each of some heads; the seconds of one, how many have the accuracy of
    every head alone, and of how many.
    """
    import kvtool

    rows = result.rows[:: max(1, len(result.rows) // SAMPLED)]
    # The first run also answers without a knockout, which serves all: it is not counted.
    kvtool.knockout(store, spec, [(0, 1), (0, 2)], **options)
    n_equal = 0
    started = time.process_time()
    for entry in rows:
        head = (entry["layer"], entry["kv_head"])
        single = kvtool.knockout(store, spec, [head], **options)
        (condition, *_) = [line for line in single.rows if line["condition"] == "chosen"]
        n_equal += abs(condition["accuracy"] - entry["accuracy"]) < 0.01
    return (time.process_time() - started) / len(rows), n_equal, len(rows)


def work(model_name: str, spec: str) -> tuple[int, int]:
    """Count the tokens that pass through layers for one picture's questions: with every head alone
    in one pass, and in one pass a head.
    """
    from kvtool.asking.benchmarks import open_benchmark
    from kvtool.models import load_model
    from kvtool.models.text_tree import TextTree

    model: Any = load_model(model_name, dtype="float32")
    _, dataset = open_benchmark(spec)
    questions: list[Any] = dataset.questions()  # type: ignore[attr-defined]
    first = questions[0].image_ids
    prompts = dict.fromkeys(entry.prompt for entry in questions if entry.image_ids == first)
    texts = [model.token_ids(model.question(prompt)) for prompt in prompts]
    # LLaVA's newline stands before each text.
    tree = TextTree.of(texts, n_between=1)
    layers, heads = SHAPE["num_hidden_layers"], SHAPE["num_key_value_heads"]
    # The row without a knockout, and those of heads in this layer and below.
    rows = sum(1 + heads * (layer + 1) for layer in range(layers))
    return rows * len(tree.depths), layers * heads * layers * sum(1 + len(text) for text in texts)


if __name__ == "__main__":
    for line in bench(int(sys.argv[1]) if len(sys.argv) > 1 else IMAGES):
        print(line)
