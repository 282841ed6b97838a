"""Linear layers that multiply in single precision where a processor has nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from kvtool.models import linear_layers, load_model
from kvtool.models.linear_layers import SinglePrecisionLinear, is_slow, multiply_in_single_precision

HALVES = (torch.bfloat16, torch.float16)


@given(
    dtype=st.sampled_from(HALVES),
    n_in=st.integers(1, 40),
    n_out=st.integers(1, 40),
    shape=st.sampled_from([(), (1,), (7,), (8,), (2, 9), (3, 1, 5), (0, 4)]),
    has_bias=st.booleans(),
    copied_values=st.sampled_from([1, 50, 1 << 20]),
    seed=st.integers(0, 99),
)
def test_each_sum_is_exact_but_for_one_rounding(
    dtype: torch.dtype,
    n_in: int,
    n_out: int,
    shape: tuple[int, ...],
    has_bias: bool,
    copied_values: int,
    seed: int,
) -> None:
    """Whole numbers are summed without an error, in whatever order, so that the result is that of
    double precision, rounded once."""
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(n_in, n_out, bias=has_bias, dtype=dtype)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randint(-9, 10, parameter.shape, generator=generator))
    layer.__class__ = SinglePrecisionLinear
    features = torch.randint(-9, 10, (*shape, n_in), generator=generator).to(dtype)
    exact = features.double() @ layer.weight.detach().double().T
    if has_bias:
        exact += layer.bias.detach().double()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear_layers, "COPIED_VALUES", copied_values)
        result = layer(features)
    assert result.dtype == dtype
    assert torch.equal(result, exact.to(dtype))


class Packed(nn.Parameter):
    """Weights of a class of their own, as quantized ones are."""


def test_what_a_processor_multiplies_itself_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def layers(slow: bool) -> nn.Sequential:
        monkeypatch.setattr(linear_layers, "is_slow", lambda dtype: slow and dtype in HALVES)
        network = nn.Sequential(
            nn.Linear(3, 3, dtype=torch.bfloat16),
            nn.Linear(3, 3),
            nn.modules.linear.NonDynamicallyQuantizableLinear(3, 3, dtype=torch.bfloat16),
        )
        packed = nn.Linear(3, 3, dtype=torch.bfloat16)
        packed.weight = Packed(packed.weight.detach(), requires_grad=False)
        network.append(packed)
        multiply_in_single_precision(network)
        return network

    assert not any(isinstance(layer, SinglePrecisionLinear) for layer in layers(False))
    assert [isinstance(layer, SinglePrecisionLinear) for layer in layers(True)] == [
        True,
        False,
        False,
        False,
    ]
    assert not is_slow(torch.float32)


def test_a_model_gives_what_it_gives_otherwise_but_for_roundings(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways on whatever processor this is."""
    logits = []
    for slow in (False, True):
        monkeypatch.setattr(linear_layers, "is_slow", lambda _, slow=slow: slow)
        network: Any = load_network(tiny_model)
        assert any(isinstance(m, SinglePrecisionLinear) for m in network.modules()) == slow
        with torch.inference_mode():
            logits.append(network(input_ids=torch.arange(20)[None]).logits.float())
    torch.testing.assert_close(*logits, rtol=0.02, atol=0.02)


def load_network(folder: Path) -> Any:
    """The network of a checkpoint, in bfloat16."""
    model: Any = load_model(str(folder))
    return model.net
