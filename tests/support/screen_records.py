"""What stands in for the work behind commands that print rows: small records of each kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from kvtool.adapters.info import AdapterInfo
from kvtool.adapters.train import TrainedAdapter
from kvtool.autoencoders.text_check import CheckedSae
from kvtool.autoencoders.text_training import TrainedSae
from kvtool.engine.outcome import Failure, Report, SizeEstimate
from kvtool.experiments.show.run import Shown
from kvtool.models.outcome import ModelCheck
from kvtool.reporting.collect import Page
from kvtool.result import Result, Row
from kvtool.store.copying import Copied, CopiedRun
from kvtool.store.hub import Pushed
from kvtool.store.problems import Problem
from kvtool.store.repair import Mended
from kvtool.tasks.survey import Served
from tests.support.result_rows import about

RUN = "demo-spair71k-test-59f7deee"
IMAGES = ("bird/2026_000092", "cat/2026_000113")


def _search() -> Result:
    rows = [
        {
            "rank": rank,
            "image": IMAGES[rank % 2],
            "x_px": 37.9 + 8.4 * rank,
            "y_px": 33.5,
            "row": 3,
            "col": 4 + rank,
            "token": 40 + rank,
            "score": 1 - 0.01234 * rank,
        }
        for rank in range(1, 6)
    ]
    note = "value, layer 6, head 0: best of the kept probe semantic-correspondence"
    return about("search", "score", rows, n=10080, unit="score", config={"notes": [note]})


def words() -> Result:
    """Return the words of one image, by the lens."""
    names = ["red", "cat", "left", "background", "circle", None]
    rows = [
        {"layer": layer, "word": names[(layer + patch // 4) % len(names)]}
        for layer in range(3)
        for patch in range(24)
    ]
    config: Row = {"image": IMAGES[0], "layers": [0, 1, 2], "notes": []}
    return about("lens", "auroc", rows, task="words", n=24, unit="auroc", config=config)


def demo(*results: Result) -> Callable[..., Iterator[Result]]:
    """Return a study that tells of steps and gives some results."""

    def study(directory: Path, *, step: Callable[[str], None], **_: Any) -> Iterator[Result]:
        step(f"extracting spair71k:{directory}/scenes/spair71k with demo")
        step("probing semantic-correspondence")
        yield from results
        step(f"writing {directory}/report.html")

    return study


def _run(suffix: str = "", model: str = "demo", **fields: Any) -> Any:
    """Return a run of a store, as far as `store runs` knows it."""
    prefix = suffix.removeprefix("+") or "none"
    row: Row = {
        "run": f"{model}-spair71k-test-59f7deee{suffix}",
        "model": model,
        "dataset": "spair71k",
        "split": "test",
        "place": "data/SPair-71k",
        "prefix": prefix,
        "dtype": "bfloat16",
        "view": "base",
        "keys": "post-rope",
        "quantization": "",
        "heads": "2",
        "system": "",
        "kinds": ["key", "value"] if suffix else ["key", "value", "projected", "vision"],
        "images": 70,
        "images_total": 70,
        "held": [],
        "images_per_minute": None,
        "bytes": 18_700_000 + len(suffix),
        "last_commit": "2026-11-30T01:04:00",
    }
    return SimpleNamespace(info=lambda: row | fields)


SEARCH = _search()
PICTURE = Shown(Path("a.png"), "pca", RUN, "value", None, IMAGES[:1], (640, 320))
EXTRACTED = Report(
    RUN, 70, n_done=70, n_bytes=18_700_000, batch_size=16, n_batches=5, seconds=12.34
)
EXTRACTED_IN_PART = Report(
    RUN,
    70,
    n_before=32,
    n_done=37,
    n_bytes=9_900_000,
    batch_size=16,
    n_batches=3,
    seconds=6.2,
    failed={
        3: Failure(IMAGES[0], f"SPair-71k/JPEGImages/{IMAGES[0]}.jpg: cut off after 812 bytes")
    },
)
ESTIMATE = SizeEstimate(RUN, 70, 0, 70, 325_000, 22_700_000, 18_500_000, 32_900_000_000, 4, None)
PAGE = Page(Path("study.html"), 6_155_127, 55, 214, ("run gone: expected it in study.kv",))
VIEWER = SimpleNamespace(
    address="http://127.0.0.1:8765/#token=secret", runs=(RUN,), wait=lambda: None
)
MODEL_CHECKS = (
    ModelCheck("map", "base", True, 0.0, 0.0, "pixels of every cell change its token alone"),
    ModelCheck("cache", "base", True, 3.1e-7, 1e-4, "image keys are those of the whole prompt"),
    ModelCheck("answers", "full", False, 0.25, 1e-4, "logits from the store differ"),
)
SCENES = {name: (f"scenes/{name}", 70)[1] for name in ("spair71k", "imagenet-s", "msrc")}
SERVED = (
    Served("images", 70, "images", 70),
    Served("concepts", 141, "masks", 70, 7),
    Served(
        "foreground-segmentation", missing="mine has no annotations for foreground-segmentation"
    ),
    Served(
        "co-segmentation", 68, "masks", 68, 7, 2, ("mine/masks/3.png: not of the size of 3.jpg",)
    ),
    Served(
        "temporal-correspondence", missing="mine has no annotations for temporal-correspondence"
    ),
    Served("prefix random", 70, "texts", 70),
)
TRAINED_ADAPTER = TrainedAdapter(
    *("trained", "demo", "demo-tower", 3, 1, "random", 800, 16, 1350, 150),
    *(4.12345, 1.98765, 2.34567, 0.61234, 41.2),
)
ADAPTER = AdapterInfo(
    *("trained", "demo", "same", "demo-tower", "missing", 3, 1, "", 96, 128, 12_416),
    training={"start": "ridge", "steps": 800, "batch_size": 16, "learning_rate": 0.0005},
)
TRAINED_SAES = tuple(
    TrainedSae(layer, f"saes/layer_{layer}", 1024, 32, 88_000, 9_800, 0.0312, 31.87, 0.912, 14.1)
    for layer in (0, 1)
)
CHECKED_SAES = (
    CheckedSae(
        "saes/layer_0/sae_weights.safetensors",
        *("SAELens", 0, "blocks.0.hook_resid_post", 128, 1024, None, 31.87, 0.0312),
        *(True, "fits"),
    ),
    CheckedSae(
        "saes/layer_1/sae_weights.safetensors",
        *("SAELens", 1, "blocks.1.hook_resid_post", 128, 1024, 32.0, 31.87, 1.21),
        *(False, "fits layer 2, which its files do not name"),
    ),
)
STORE: Row = {
    "store": "study.kv",
    "version": 2,
    "runs": 48,
    "images": 2633,
    "parts": 110,
    "bytes": 588_000_000,
    "parts_bytes": 567_900_000,
    "indexes_bytes": 0,
    "results": 260,
    "answers": 668,
    "free_bytes": 32_900_000_000,
}
RUNS = (
    _run(),
    _run("+correct"),
    _run("+incorrect"),
    _run("+random", images=32, held=["part 0000032-0000064: host, process 7"]),
    _run(model="demo@1", kinds=["key", "value"]),
    _run(dataset="coco", split="val2014", place="data/coco", run="demo-coco-val2014-747c7eb6"),
)
PROBLEMS = (
    Problem(RUN, "0000000-0000032", "value", "checksum differs in chunk c/0/3"),
    Problem(RUN, "0000032-0000064", "", "zarr.json is gone"),
)
MENDED = (
    Mended(RUN, "0000000-0000032", "dropped", "value: checksum differs in chunk c/0/3"),
    Mended("", "", "left as it is", "notes.txt is none of kvtool's files"),
)
PRUNED = (Mended("", "", "removed", "results/001e79397b41fbae.json is of a run that is gone"),)
COPIED = Copied([CopiedRun(RUN, 1800, 57, 2, 41_943_040_000)], results=3)
PUSHED = Pushed("hf://datasets/acme/study", 2, 59, True, "0123456789abcdef0123456789abcdef01234567")
