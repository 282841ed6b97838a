"""Numbers of layers that no model has, refused in one line that names the field."""

from __future__ import annotations

import pytest

from kvtool.errors import ModelError
from kvtool.models.loading import check_layers


@pytest.mark.parametrize("count", [-1, 1e9, float("inf"), float("nan"), 10**400])
def test_a_count_that_no_model_has(count: float) -> None:
    with pytest.raises(ModelError, match="expected num_hidden_layers of 0 to") as caught:
        check_layers("m", {"text_config": {"num_hidden_layers": count}})
    assert len(str(caught.value)) < 200
