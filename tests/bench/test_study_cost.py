"""The table of what the paper's whole study takes is that of the code's own estimates."""

from __future__ import annotations

import pytest

from tests.bench import study_cost
from tests.bench.study_cost import ALL_KINDS, PREFIX_TOKENS, STUDY, TEMPLATE_TOKENS
from tests.support.model_shapes import SHAPES

TOKENS = 27 * 27


def closed_form(n_text: int, with_tower: bool) -> float:
    """Operations of a prefill by hand: two for each weight and token, and attention's products."""
    shape = SHAPES["7b"]
    hidden, n = shape.hidden, TOKENS + n_text
    head_dim = hidden // shape.q_heads
    attention = 2 * hidden**2 + 2 * hidden * shape.kv_heads * head_dim
    layer = 2 * n * (attention + 3 * hidden * shape.intermediate) + 4 * n**2 * hidden
    total = shape.layers * layer
    if with_tower:
        width = shape.tower_hidden
        weights = 4 * width**2 + 2 * width * shape.tower_intermediate
        total += shape.tower_layers * (2 * TOKENS * weights + 4 * TOKENS**2 * width)
        total += 2 * TOKENS * (width * hidden + hidden**2 + 3 * 14**2 * width)
    return total


def test_the_page_is_that_of_the_estimates() -> None:
    page = study_cost.PAGE.read_text()
    assert page.count("<!-- study -->") == 1
    assert study_cost.filled(page, study_cost.saved()) == page


def test_operations_are_those_of_the_closed_form() -> None:
    figures = study_cost.saved()
    assert figures["plain_flops"] == pytest.approx(closed_form(TEMPLATE_TOKENS, True), rel=0.01)
    assert figures["prefixed_flops"] == pytest.approx(closed_form(PREFIX_TOKENS, False), rel=0.01)


def test_bytes_are_those_of_every_array() -> None:
    n_numbers = 28 * 2 * 4 * 128 * (TOKENS + TEMPLATE_TOKENS) + TOKENS * (3584 + 1152)
    assert study_cost.image_bytes(ALL_KINDS, TEMPLATE_TOKENS) == 2 * n_numbers


def test_the_last_row_is_the_sum() -> None:
    last = study_cost.table(study_cost.saved()).splitlines()[-1]
    assert f"| {sum(part.n_images for part in STUDY):,} |" in last
    assert last.startswith("| **all** | 13,267 | 11,400 |")


def test_another_rate_changes_the_page() -> None:
    figures = study_cost.saved()
    page = study_cost.PAGE.read_text()
    slower = {**figures, "encoder_mbytes_per_core": {"lz4": 10, "none": 20}}
    assert study_cost.filled(page, slower) != page
    assert study_cost.filled(page, {**figures, "plain_flops": 1}) != page
