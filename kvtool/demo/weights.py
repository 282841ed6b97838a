"""The shipped demo model: where its folders are, and how its small early checkpoints are read.

`model/` and `tower/` are ordinary transformers folders; `saes/` holds SAEs of the decoder.
`stages/N` hold int8 weights with a scale a row; when they are first needed they are unpacked into a
folder beside the user's caches.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any

from kvtool.errors import ModelError

_FOLDER = Path(__file__).parent
DEMO = "demo"
STAGES = (1, 2, 3)
ADAPTERS = ("demo", "smollm2")
"""The language models that an adapter is shipped for, all from the tower `demo-tower`."""
WEIGHTS = "weights.int8.safetensors"


def demo_path(name: str = "demo") -> Path:
    """Return the folder of `demo`, `demo-tower`, `demo@1` to `demo@3`, or of a shipped adapter.

    Raises:
        ModelError: The name is another one.
    """
    if name in ("demo", "demo-tower"):
        return _FOLDER / ("model" if name == "demo" else "tower")
    if name in (f"{language}-adapter" for language in ADAPTERS):
        return _FOLDER / "adapters" / name.removesuffix("-adapter")
    if name in {f"demo@{stage}" for stage in STAGES}:
        return _unpacked(int(name[-1]))
    raise ModelError(
        f"model {name}: expected demo, demo-tower or demo@1 to demo@3; choose one of them"
    )


def demo_saes_path() -> Path:
    """Return the folder of the SAEs of the demo model's decoder, `layer_0` to `layer_7`."""
    return _FOLDER / "saes"


def load_stage(stage: int) -> dict[str, Any]:
    """Read the model as it was at one of three points of the joint training.

    Returns:
        The state dict in bfloat16.
    """
    import torch
    from safetensors.torch import load_file

    stored = load_file(str(_FOLDER / "stages" / str(stage) / WEIGHTS))
    state = {}
    for name, weight in stored.items():
        if name.endswith(".scale"):
            continue
        scale = stored.get(f"{name}.scale")
        # A matrix has int8 weights and a scale a row; everything else is stored as it is.
        if scale is not None:
            weight = weight.float() * scale.view(-1, *[1] * (weight.ndim - 1))
        state[name] = weight.to(torch.bfloat16)
    return state


def _unpacked(stage: int) -> Path:
    """Return a transformers folder of the stage, named by the hash of its weights.

    It is written aside and renamed, so that it is complete whenever it exists.
    """
    small = sorted(file for file in (_FOLDER / "model").iterdir() if file.suffix != ".safetensors")
    # The hash names the folder: another version of the weights is another folder.
    key = sha256((_FOLDER / "stages" / str(stage) / WEIGHTS).read_bytes())
    for file in small:
        key.update(file.read_bytes())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kvtool"
    folder = cache / f"demo-{stage}-{key.hexdigest()[:12]}"
    if not folder.exists():
        from safetensors.torch import save_file

        cache.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=cache))
        for file in small:
            shutil.copy(file, aside)
        save_file(load_stage(stage), str(aside / "model.safetensors"), metadata={"format": "pt"})
        try:
            aside.rename(folder)
        except OSError:
            # Another process was first: its folder holds the same.
            shutil.rmtree(aside)
    return folder
