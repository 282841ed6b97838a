"""A tiny language model and text for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.sae.text import write_text
from tests.support.tiny_language import llama
from tests.support.tiny_words import LLAVA_TEMPLATE


@pytest.fixture(scope="session")
def language_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny causal language model of three layers."""
    return llama(tmp_path_factory.mktemp("language"), LLAVA_TEMPLATE)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A file of 60 documents."""
    return write_text(tmp_path / "text.txt")
