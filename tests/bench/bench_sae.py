"""What `kvtool sae` reads, the residual stream at 64 of 729 image tokens after every layer, against
a pass over the whole prompt with hooks.

`python -m tests.bench.bench_sae [--images N]` prints the rows; bench() returns them. The decoder
has random weights and layers shaped as those of LLaVA-OneVision 7B, an eighth as wide; its tower is
next to nothing. Ours reads a store and runs the few tokens, an image at a time; the peer is given
pixels that are prepared, and answers a sample of the images in turns with ours. Needs about 4 MB of
disk an image while it runs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import kvtool
from kvtool.features.residual import image_streams
from kvtool.models import load_model
from kvtool.models.cache import watched
from kvtool.store import Run, open_store
from tests.bench.bench_capture import picture, transformers_inputs
from tests.bench.rows import Row, row

IMAGES = 200
TOKENS = 64
TURNS = 10
PEERS = 4
"""Images of a turn that the peer answers."""
SIDE_PX = 378
PATCH_PX = 14
LAYERS = 6
TARGET = 2.0
ROUNDING = 2**-7
"""The relative distance of neighbors in bfloat16: products of other shapes round differently here
and there, which six layers carry on (98 to 99.9 % of an image's values were equal bit for bit, no
vector further than 0.6 % from the whole pass's)."""


def bench(n_images: int = IMAGES) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="bench-sae-") as folder:
        path = Path(folder)
        model = load_model(write_model(path / "model"), dtype="bfloat16")
        pictures = [picture(number) for number in range(n_images)]
        name = str(path / "model")
        kvtool.extract(
            path / "s.kv", model=name, dataset=pictures, kinds=("key", "value", "projected")
        )
        run = open_store(path / "s.kv").run()
        return [*compared(run, model, pictures), memory(path, n_images)]


def write_model(folder: Path) -> str:
    """A model with random weights: 27 x 27 image tokens, six layers of 448."""
    from transformers import LlavaOnevisionForConditionalGeneration, LlavaOnevisionImageProcessorPil

    from kvtool.demo.training.model import model_config
    from kvtool.demo.training.text import build_tokenizer

    config: Any = model_config()
    vision = {"image_size": SIDE_PX, "patch_size": PATCH_PX, "num_hidden_layers": 1}
    text = {
        "hidden_size": 448,
        "intermediate_size": 2368,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 7,
        "num_key_value_heads": 1,
        "layer_types": ["full_attention"] * LAYERS,
    }
    for part, sizes in ((config.vision_config, vision), (config.text_config, text)):
        for name, value in sizes.items():
            setattr(part, name, value)
    pinpoints = [[SIDE_PX, 2 * SIDE_PX], [2 * SIDE_PX, SIDE_PX]]
    config.image_grid_pinpoints = pinpoints
    torch.manual_seed(0)
    network: Any = LlavaOnevisionForConditionalGeneration(config)
    network.to(torch.bfloat16).save_pretrained(folder)
    size = {"height": SIDE_PX, "width": SIDE_PX}
    processor: Any = LlavaOnevisionImageProcessorPil(size=size, image_grid_pinpoints=pinpoints)
    processor.save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return str(folder)


def chosen(run: Run, ids: Sequence[str]) -> dict[str, Any]:
    """The indices of the image tokens that are read, spread evenly, by image."""
    samples = [run.image(image).sample for image in ids]
    cells = np.arange(TOKENS) * tokens_of(run) // TOKENS
    return {sample.id: np.array(sample.base().token_indices())[cells] for sample in samples}


def compared(run: Run, model: Any, pictures: Sequence[Any]) -> list[Row]:
    """Both sides in turns over the images, and how many of the peer's vectors ours equal."""
    layers = range(LAYERS)
    share = len(run.ids) // TURNS
    ours_s = peer_s = 0.0
    n_peer = n_equal = 0
    for start in range(0, share * TURNS, share):
        ids = run.ids[start : start + share]
        tokens = chosen(run, ids)
        started = time.perf_counter()
        streams = [stream.states for stream in image_streams(run, layers, tokens, model)]
        ours_s += time.perf_counter() - started
        for offset in range(PEERS):
            prepared = model.prepare(pictures[start + offset], id=ids[offset], index=0)
            inputs = transformers_inputs(model, [prepared])
            started = time.perf_counter()
            states = whole_pass(model, inputs)
            peer_s += time.perf_counter() - started
            first = prepared.sample.image_start
            expected = states[:, torch.from_numpy(first + tokens[ids[offset]])]
            distance = (streams[offset].float() - expected.float()).norm(dim=-1)
            n_equal += int((distance <= ROUNDING * expected.float().norm(dim=-1)).sum())
            n_peer += distance.numel()
    name = f"sae: stream at {TOKENS} of {tokens_of(run)} tokens, {LAYERS} layers"
    n_ours, n_passes = share * TURNS, PEERS * TURNS
    return [
        row(f"{name} / whole pass", "images/s", n_ours / ours_s, n_passes / peer_s, TARGET),
        row("sae: vectors equal to the whole pass's", "vectors", n_equal, n_peer, 1.0),
    ]


def tokens_of(run: Run) -> int:
    rows, cols = run.samples[0].base().grid
    return rows * cols


def whole_pass(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
    """The outputs of all layers over the whole prompt, (layer, token, hidden), by hooks."""
    outputs: list[torch.Tensor] = []
    layers = model.language_model.layers
    with torch.inference_mode(), watched(dict.fromkeys(layers, outputs.append)):
        model.net.model(**inputs, use_cache=True)
    return torch.stack(outputs)[:, 0]


def memory(folder: Path, n_images: int) -> Row:
    """Peak memory of a process that streams all images, against one that streams a quarter."""
    few = n_images // 4
    ours, peer = peak_mb(folder, n_images), peak_mb(folder, few)
    name = f"sae: peak memory at {n_images} images / at {few}"
    return row(name, "MB", ours, peer, 1.1, "lower")


def peak_mb(folder: Path, n_images: int) -> float:
    command = [sys.executable, "-m", "tests.bench.bench_sae", "--peak", str(folder)]
    command += ["--images", str(n_images)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_peak(folder: Path, n_images: int) -> None:
    run = open_store(folder / "s.kv").run()
    model: Any = load_model(str(folder / "model"), dtype="bfloat16")
    for stream in image_streams(run, range(LAYERS), chosen(run, run.ids[:n_images]), model):
        assert stream.states.isfinite().all()
    status = Path("/proc/self/status").read_text()  # ru_maxrss would begin at the parent's peak
    sys.stdout.write(f"{int(status.split('VmHWM:')[1].split()[0]) * 1024 / 1e6:.1f}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=IMAGES, help="images, a multiple of 40")
    parser.add_argument("--peak", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        print_peak(options.peak, options.images)
        return
    for figures in bench(options.images):
        sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
