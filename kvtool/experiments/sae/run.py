"""`kvtool sae`: the decoder's residual stream at image tokens, read by sparse autoencoders that
were trained on text.

See docs/sae.md, "Measures and controls". Falling error and text-like sparsity are no evidence that
image tokens are aligned with language: a decoder does that to any vectors. Transfer is: features
chosen on words alone find the patches that show what the words name.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kvtool.bounds import checked
from kvtool.experiments.sae.conditions import DEFAULT
from kvtool.layers import LayerChoice
from kvtool.progress import Progress
from kvtool.result import Result
from kvtool.store.select import Target

if TYPE_CHECKING:
    from kvtool.sae.autoencoder import SparseAutoencoder

    Source = str | PathLike[str] | SparseAutoencoder

TOKENS = 64


@checked
def sae(
    target: Target,
    sae: Sequence[Source] | Source,
    *,
    tokens: int | Literal["all"] = TOKENS,
    layers: LayerChoice | None = None,
    conditions: Sequence[str] = DEFAULT,
    descriptions: str | Path | None = None,
    splice: bool = False,
    max_presence: float = 0.05,
    max_density: float = 0.005,
    outlier: float = 10.0,
    scale: float | Literal["auto"] = "auto",
    limit: int | None = None,
    run: str | None = None,
    model: str | None = None,
    data: str | Path | None = None,
    device: str = "cpu",
    seed: int = 0,
    fresh: bool = False,
    wait_s: float = 0.0,
    progress: Progress | bool | None = None,
) -> Result:
    """Measure how the residual stream at image tokens reads in the features of text."""
    raise NotImplementedError
