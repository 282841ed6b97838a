"""An offline machine with hub caches as people have them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cases.outcomes import refusal, rows
from tests.support.hub import COMMIT, cached
from tests.support.shell import Outcome, Shell

Extract = Callable[..., Outcome]


@pytest.fixture
def extract(shell: Shell, photos: Path, tmp_path: Path) -> Extract:
    def run(model: object, *flags: str) -> Outcome:
        return shell(
            "-q",
            "extract",
            tmp_path / "s.kv",
            "--model",
            model,
            "--dataset",
            f"folder:{photos}",
            *flags,
        )

    return run


@pytest.mark.slow
def test_every_reference_resolves(extract: Extract, hub: Path, tiny_model: Path) -> None:
    snapshot = cached(hub, tiny_model, "main", "v1.0", "refs/pr/5", "release/2.0")
    names = [
        "acme/tiny",
        *(f"acme/tiny@{name}" for name in ("v1.0", "refs/pr/5", "release/2.0", COMMIT)),
    ]
    for model in (*names, snapshot):
        assert rows(extract(model, "--dry-run"))[0]["n_todo"] == 3
    assert str(snapshot) in refusal(extract(hub / "models--acme--tiny", "--dry-run"))


@pytest.mark.slow
def test_without_references_the_cached_commit_is_named(
    extract: Extract, hub: Path, tiny_model: Path
) -> None:
    cached(hub, tiny_model)
    assert rows(extract(f"acme/tiny@{COMMIT}", "--dry-run"))[0]["n_todo"] == 3
    code, out, err = extract("acme/tiny", "--dry-run")
    assert code in (0, 1)
    assert code == 0 or COMMIT in refusal((code, out, err))


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("file", "word"), [("model.safetensors", "weights"), ("tokenizer.json", "tokenizer")]
)
def test_a_missing_file_is_named(
    extract: Extract, hub: Path, tiny_model: Path, file: str, word: str
) -> None:
    (cached(hub, tiny_model, "main") / file).unlink()
    line = refusal(extract("acme/tiny"))
    assert word in line
    assert file in line
