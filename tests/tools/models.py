"""The tables of model families in docs/models.md and README.md: `python -m tests.tools.models`
measures every family on its tiny checkpoint and writes them again.

What was measured is kept in docs/figures/models.json, of which both tables are made. A test
compares all three, and the families with the registry.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import kvtool
from kvtool.models.decoder import DecoderModel
from kvtool.models.families import EXAMPLES, FAMILIES, SPECIAL, VIEWS
from kvtool.types import Precision
from tests.support import tiny
from tests.tools.source import ROOT

DIGEST = ROOT / "docs" / "figures" / "models.json"
PAGES = {"models": ROOT / "docs" / "models.md", "short": ROOT / "README.md"}
DTYPES: tuple[Precision, ...] = ("float32", "bfloat16")
NAMES = {
    "llava": "LLaVA 1.5",
    "llava_next": "LLaVA-NeXT",
    "llava_onevision": "LLaVA-OneVision",
    "qwen2_vl": "Qwen2-VL",
    "qwen2_5_vl": "Qwen2.5-VL",
    "qwen3_vl": "Qwen3-VL",
    "qwen3_vl_moe": "Qwen3-VL MoE",
    "qwen3_5": "Qwen3.5",
    "qwen3_5_moe": "Qwen3.5 MoE",
    "gemma3": "Gemma 3",
    "gemma4": "Gemma 4",
    "internvl": "InternVL 3, 3.5",
    "idefics3": "Idefics3",
    "smolvlm": "SmolVLM2",
    "mistral3": "Mistral 3",
}
"""What the multimodal families are called, in the order of the tables."""
BUILDERS = {"llava": "llava_15"}
"""Functions of tests/support/tiny.py that are called otherwise than the family."""
CHECKS = ("whole prompt", "question", "batch", "continuation", "knockout")
"""Checks whose value is a difference, as a share of the largest value."""
Measured = dict[str, list[dict[str, Any]]]


def multimodal_families() -> set[str]:
    """Return the families of the registry that are multimodal models of transformers'."""
    joined = {"linear_adapter"}
    decoders = {name for name in FAMILIES.table if issubclass(FAMILIES.load(name), DecoderModel)}
    return decoders - joined


def measure(families: Sequence[str]) -> Measured:
    """Return the outcomes of every check of families, on tiny random weights of their classes."""
    measured: Measured = {}
    for family in families:
        rows = []
        with tempfile.TemporaryDirectory() as folder:
            build = getattr(tiny, BUILDERS.get(family, family))
            checkpoint = build(Path(folder) / "model")
            for dtype in DTYPES:
                for outcome in kvtool.check_model(str(checkpoint), device="cpu", dtype=dtype):
                    row = outcome.row()
                    fields = {name: row[name] for name in ("view", "check", "passed", "value")}
                    rows.append({"dtype": dtype, **fields})
        measured[family] = rows
        print(family, sum(not row["passed"] for row in rows), "checks fail", flush=True)
    return measured


def largest(rows: Sequence[dict[str, Any]], dtype: str, checks: Sequence[str] = CHECKS) -> str:
    """Return the largest difference that some checks of a family found, over its views."""
    values = [row["value"] for row in rows if row["dtype"] == dtype and row["check"] in checks]
    return f"{max(values):.1g}" if max(values) else "0"


def tables(measured: Measured) -> dict[str, str]:
    """Return both tables in Markdown, by the name of their place."""
    long = [
        "| family | `model_type` | checkpoints, for example | `--view` | special | keys, values | "
        "continuation | float32 | bfloat16 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    short = [
        "| family | for example | `--view` | largest difference, float32, bfloat16 |",
        "|---|---|---|---|",
    ]
    for family, name in NAMES.items():
        rows = measured[family]
        examples = EXAMPLES[family]
        differences = [largest(rows, dtype) for dtype in DTYPES]
        states = largest(rows, "float32", ("whole prompt", "question"))
        goes_on = largest(rows, "float32", ("continuation",))
        listed = ", ".join(f"`{example}`" for example in examples)
        cells = (name, f"`{family}`", listed, VIEWS[family], SPECIAL.get(family, ""))
        long.append("| " + " | ".join((*cells, states, goes_on, *differences)) + " |")
        first = f"`{examples[0]}`"
        short.append(f"| {name} | {first} | {VIEWS[family]} | {', '.join(differences)} |")
    return {"models": "\n".join(long), "short": "\n".join(short)}


def filled(page: str, table: str) -> str:
    """Return a page with the table between its marks."""
    return re.sub(
        r"(<!-- models -->\n\n).*?(\n\n<!-- end of models -->)",
        lambda match: match[1] + table + match[2],
        page,
        flags=re.DOTALL,
    )


def saved() -> Measured:
    """Return what was measured last."""
    measured: Measured = json.loads(DIGEST.read_text())
    return measured


def main(families: Sequence[str]) -> None:
    """Measure some families, or all, and write the tables."""
    before = saved() if DIGEST.exists() else {}
    measured = before | measure(families or list(NAMES))
    ordered = {family: measured[family] for family in NAMES if family in measured}
    DIGEST.write_text(json.dumps(ordered, indent=1) + "\n")
    for name, table in tables(ordered).items():
        page = PAGES[name]
        page.write_text(filled(page.read_text(), table))


if __name__ == "__main__":
    main(sys.argv[1:])
