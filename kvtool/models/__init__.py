"""Model families: load a checkpoint of a known family, prepare images, capture what its decoder
holds of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvtool.types import InputSize, Precision

if TYPE_CHECKING:
    from kvtool.models.base import Model


def load_model(
    name: str,
    *,
    device: str = "cpu",
    dtype: Precision = "bfloat16",
    attention: str = "sdpa",
    weights: bool = True,
    size: InputSize = InputSize(),
    system: str = "",
) -> Model:
    """Load a model by hub id (optionally id@revision), folder, "demo", "demo-tower" or
    "demo@1".."demo@3".

    With weights=False it plans only: `info`, `request` and `prepare` work, `capture` does not, and
    of a hub model nothing but its small files is fetched. `system` is the text of a system message
    that stands before everything else in every prompt. Raises ModelError (not a model, unknown
    family, files missing) and UsageError (device, dtype or attention not available, a size that its
    family cannot bring pictures to, or a system text that its chat template has no room for).
    """
    from kvtool.models.loading import ModelSettings, load

    return load(name, ModelSettings(device, dtype, attention, size, system), weights)
