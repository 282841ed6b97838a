"""Quantized checkpoints: what config.json says of them, and what reads them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from kvtool.errors import ModelError

LIBRARIES = {
    "awq": ("gptqmodel",),
    "bitsandbytes": ("bitsandbytes",),
    "compressed-tensors": ("compressed_tensors",),
    "gptq": ("optimum", "gptqmodel"),
    "hqq": ("hqq",),
    "quanto": ("optimum.quanto",),
    "torchao": ("torchao",),
    "fp8": (),
}
"""By quant_method, the modules beside accelerate without which transformers does not read it.

Of other methods transformers says itself what is missing.
"""
PACKAGES = {"optimum.quanto": "optimum-quanto", "compressed_tensors": "compressed-tensors"}
"""By module, the package that brings it, where it is called otherwise."""


def quantization_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what config.json says of how weights are quantized; empty where they are not."""
    text = config.get("text_config")
    # Multimodal configurations may keep it with the decoder's settings.
    settings = config.get("quantization_config")
    if settings is None and isinstance(text, Mapping):
        settings = text.get("quantization_config")
    return dict(settings) if isinstance(settings, Mapping) else {}


def method_of(settings: Mapping[str, Any]) -> str:
    """Return the quantization method; files of bitsandbytes' first releases do not name it."""
    by_flag = "bitsandbytes" if _bits(settings) and "quant_method" not in settings else ""
    return by_flag or str(settings.get("quant_method", "unknown"))


def quantization_text(settings: Mapping[str, Any]) -> str:
    """Return how weights are quantized in a few words, e.g. "bitsandbytes, 4 bits"; empty where
    they are not.
    """
    if not settings:
        return ""
    words = [method_of(settings)]
    if bits := _bits(settings):
        words.append(f"{bits} bits")
    kind = settings.get("bnb_4bit_quant_type") if bits == 4 else settings.get("fmt")
    if isinstance(kind, str):
        words.append(kind)
    words += _torchao_type(settings)
    return ", ".join(words)


def _bits(settings: Mapping[str, Any]) -> int | None:
    """Return the bits a weight where the settings say so."""
    for width in (4, 8):
        # Both widths of bitsandbytes are flags, under two spellings.
        if settings.get(f"load_in_{width}bit") or settings.get(f"_load_in_{width}bit"):
            return width
    bits = settings.get("bits")
    return bits if isinstance(bits, int) else None


def _torchao_type(settings: Mapping[str, Any]) -> list[str]:
    """Return the name of torchao's settings, which stand two levels down."""
    quant_type = settings.get("quant_type")
    default = quant_type.get("default") if isinstance(quant_type, Mapping) else None
    name = default.get("_type") if isinstance(default, Mapping) else quant_type
    return [name] if isinstance(name, str) else []


def check_libraries(name: str, settings: Mapping[str, Any]) -> None:
    """Raise ModelError where transformers does not read such weights, or a package is missing that
    does.
    """
    from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

    method = method_of(settings)
    if not any(key.startswith(method) for key in AUTO_QUANTIZER_MAPPING):
        raise ModelError(
            f"model {name}: config.json: expected a quant_method that transformers reads, found "
            f"{method!r}; take the model's plain version"
        )
    # Without accelerate transformers reads no quantized weights.
    modules = ("accelerate", *LIBRARIES.get(method, ()))
    packages = [PACKAGES.get(module, module) for module in modules if not is_installed(module)]
    if packages:
        raise ModelError(
            f"model {name}: expected {' and '.join(packages)}, which its quantized weights "
            f"({method}) are read with, found none; pip install {' '.join(packages)}"
        )


def is_installed(module: str) -> bool:
    """Return whether a module can be imported; a part of a package that lacks cannot."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
