"""README's estimates are kvtool's own, and its commands and the batch script are commands."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.support.command_lines import kvtool_lines, parse
from tests.tools import needs
from tests.tools.source import ROOT

BATCH = ROOT / "docs" / "slurm.sbatch"
PAGE = needs.README.read_text("utf-8")
LINES = [
    words
    for block in re.findall(r"(?:^ {4}.*\n|^\n)+|```bash\n.*?```", PAGE, re.MULTILINE | re.DOTALL)
    for words in kvtool_lines(re.sub(r"^ {4}", "", block, flags=re.MULTILINE))
]


def test_the_pages_figures_are_those_of_the_kept_estimates() -> None:
    assert PAGE.count("<!-- needs -->") == PAGE.count("<!-- end of needs -->") == 1
    assert needs.filled(PAGE, needs.saved()) == PAGE


def test_another_estimate_changes_the_page() -> None:
    larger = {
        size: {name: 3 * number for name, number in need.items()}
        for size, need in needs.saved().items()
    }
    assert needs.filled(PAGE, larger) != PAGE


@pytest.mark.slow
@pytest.mark.parametrize("size", needs.DECODERS)
def test_the_kept_estimates_are_what_kvtool_says_now(size: str) -> None:
    assert needs.measure(needs.DECODERS[size]) == needs.saved()[size]


def test_the_estimates_are_near_what_one_reckons_by_hand() -> None:
    for size, billions in (("7b", 8.0), ("72b", 73.2)):
        need, decoder = needs.saved()[size], needs.DECODERS[size]
        assert need["weights_bytes"] == pytest.approx(2e9 * billions, rel=0.02)
        head_bytes = 2 * decoder["hidden_size"] // decoder["num_attention_heads"]
        n_heads = decoder["num_hidden_layers"] * decoder["num_key_value_heads"]
        cached = 2 * n_heads * head_bytes * need["n_tokens"]
        projected = 2 * need["n_tokens"] * (decoder["hidden_size"] + needs.TOWER["hidden_size"])
        assert need["image_bytes"] == pytest.approx(cached + projected, rel=0.01)
        assert need["operations"] == pytest.approx(2e9 * billions * need["n_tokens"], rel=0.2)


def test_the_batch_script_is_short_and_a_script_and_on_the_page() -> None:
    script = BATCH.read_text("utf-8")
    assert len(script.splitlines()) <= 12
    assert f"```bash\n{script}```" in PAGE
    checked = subprocess.run(
        ["bash", "-n", str(BATCH)], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")
    (words,) = kvtool_lines(script)
    assert parse(words).params["model"] == needs.NAME.format(size="7b")


@pytest.mark.sampled
@pytest.mark.parametrize("words", LINES, ids=" ".join)
def test_a_command_of_the_page_can_be_parsed(words: list[str]) -> None:
    parse(words)


def test_the_page_has_commands() -> None:
    assert len(LINES) >= 15
    with pytest.raises(Exception, match="No such option"):
        parse(["probe", "spair.kv", "semantic-correspondence", "--no-such-flag"])
