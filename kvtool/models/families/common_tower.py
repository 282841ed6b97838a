"""The tower of families without a file: stored where it is made of layers of patches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch

from kvtool.errors import UsageError
from kvtool.layers import LayerChoice
from kvtool.models.base import Request
from kvtool.models.families.common_grids import GRID_INPUTS
from kvtool.models.whole import WholeModel
from kvtool.types import KeyPosition, Kind, Sample

DEPTHS = ("num_hidden_layers", "depth", "num_layers")
WIDTHS = ("hidden_size", "embed_dim")
"""What configurations call the number of a tower's layers, and their width."""


class CommonTower(WholeModel):
    """The part of a CommonModel that sees its tower.

    Where a layer's output is not patch by patch, row by row, the tower's map is refused when it is
    proven, and runs leave `vision` out.
    """

    model_type: str
    proves_tower = True

    @cached_property
    def _vision(self) -> Any:
        return getattr(self.config, "vision_config", None)

    @cached_property
    def patch_px(self) -> int | None:
        """Return the side of a patch; None where the tower has none."""
        size = getattr(self._vision, "patch_size", None)
        return size[0] if isinstance(size, list | tuple) else size

    @cached_property
    def tower_depth(self) -> int:
        """Return how many layers the tower has whose output lies patch by patch; 0 where it cannot
        be told.
        """
        depth = next((n for name in DEPTHS if (n := getattr(self._vision, name, None))), 0)
        tower = self.tower()
        lists = [] if tower is None else tower.modules()
        # A list of as many layers as configured: without one outputs cannot be told apart.
        has_layers = any(
            isinstance(item, torch.nn.ModuleList) and len(item) == depth for item in lists
        )
        return depth if has_layers and self.patch_px else 0

    def tower(self) -> Any:
        """Return the vision tower, as transformers finds it; None where it has none."""
        tower = self.net.model.get_encoder(modality="image")
        return None if tower is self.net.model else tower

    def vision_size(self) -> tuple[int, int]:
        """See WholeModel.vision_size: nothing of a tower that is not made of patches."""
        width = next((n for name in WIDTHS if (n := getattr(self._vision, name, None))), 0)
        return (self.tower_depth, width) if self.tower_depth else (0, 0)

    def default_vision_layers(self) -> tuple[int, ...]:
        """See WholeModel.default_vision_layers."""
        return super().default_vision_layers() if self.tower_depth else ()

    def patches(self, states: torch.Tensor, samples: Sequence[Sample]) -> torch.Tensor:
        """See WholeModel.patches: in squares of those that share a token where the processor cuts
        the patches itself.
        """
        rows = super().patches(states.reshape(-1, *states.shape[-2:]), samples)
        merge = getattr(self._vision, "spatial_merge_size", 1)
        if merge == 1 or self.processor.image_processor.model_input_names[-1] not in GRID_INPUTS:
            return rows
        # Patches come in squares that share a token; here they are put back row by row.
        token_rows, token_cols = samples[0].spans[0].grid
        squares = rows.reshape(len(samples), token_rows, token_cols, merge, merge, -1)
        return squares.transpose(2, 3).flatten(1, 4)

    def request(
        self,
        kinds: Sequence[Kind] | None,
        layers: LayerChoice | None,
        keys: KeyPosition = "post-rope",
        vision_layers: Sequence[int] | None = None,
    ) -> Request:
        """See Model.request. The tower's output is left out where it cannot be told patch by
        patch.
        """
        if not self.tower_depth:
            if "vision" in (kinds or ()):
                raise UsageError(
                    f"--kinds vision: expected a tower of layers of patches, found that of a "
                    f"{self.model_type}; leave it out"
                )
            kinds = ("key", "value", "projected") if kinds is None else kinds
        return super().request(kinds, layers, keys, vision_layers)
