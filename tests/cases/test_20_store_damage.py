"""Half-copied and damaged stores: all damage is found on reading and by verify, and nothing is read
as zeros.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import kvtool
from tests.cases.outcomes import refusal, rows, told
from tests.support.shell import Shell

Damage = Callable[[Path], object]


@pytest.fixture(scope="module")
def intact(tiny_model: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "s.kv"
    kvtool.extract(path, model=str(tiny_model), dataset=f"folder:{photos}")
    return path


@pytest.fixture
def store(intact: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(intact, tmp_path / "s.kv"))


def chunks(store: Path) -> Path:
    """The file of the values of layer 1."""
    return sorted(store.glob("runs/*/parts/*/value/c.1.*"))[0]


def metadata(store: Path) -> Path:
    return next(store.glob("runs/*/parts/*/zarr.json"))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)


FILES: dict[str, Damage] = {
    "gone": lambda store: chunks(store).unlink(),
    "cut": lambda store: chunks(store).write_bytes(chunks(store).read_bytes()[:100]),
    "zeroed": lambda store: chunks(store).write_bytes(bytes(chunks(store).stat().st_size)),
    "flipped": lambda store: flip(chunks(store)),
}
METADATA: dict[str, Damage] = {
    "no metadata": lambda store: metadata(store).unlink(),
    "empty metadata": lambda store: metadata(store).write_bytes(b""),
}
SEARCH = ("--image", "p0.png", "--at", "5,5", "--layer", "1", "--kv-head", "0", "-k", "2")


@pytest.mark.slow
@pytest.mark.parametrize("damage", [*FILES, *METADATA])
def test_damage_is_found_named_and_mended(
    shell: Shell, intact: Path, store: Path, tiny_model: Path, photos: Path, damage: str
) -> None:
    ({**FILES, **METADATA})[damage](store)
    extract = ("extract", store, "--model", tiny_model, "--dataset", f"folder:{photos}")
    assert "`kvtool store repair` drops it, then extract again" in refusal(
        shell("search", store, *SEARCH)
    )
    outcome = shell(
        "variance", store, "--fresh"
    )  # of keys alone, which no damaged file of values holds
    if damage in METADATA:
        assert "part 0000000-0000003" in refusal(outcome)
    else:
        assert rows(outcome) == rows(shell("variance", intact))
    verified = shell("store", "verify", store)
    told(verified, 1, "expected no problem in 1 parts, found 1")
    assert "part" in verified[1]
    if damage in ("gone", "cut", *METADATA):  # sizes are looked at, contents are for verify
        code, _, err = shell(*extract)
        assert code in (1, 4), err
        assert any("store repair" in line for line in err)
    assert shell("store", "repair", store)[0] == 0
    assert rows(shell(*extract))[0]["extracted"] == 3
    told(shell("store", "verify", store), 0, "no problem")
    assert len(rows(shell("search", store, *SEARCH))) == 2


@pytest.mark.slow
def test_files_of_desktops_are_no_damage(
    shell: Shell, store: Path, tiny_model: Path, photos: Path
) -> None:
    (run,) = (path for path in (store / "runs").iterdir() if path.is_dir())
    for path in (store, store / "runs", run, run / "parts"):
        (path / ".DS_Store").touch()
        (path / "._0").touch()
    (store / "runs/.Trash-0").mkdir()
    told(shell("store", "verify", store), 0, "no problem")
    extract = ("extract", store, "--model", tiny_model, "--dataset", f"folder:{photos}")
    assert rows(shell(*extract))[0]["already_stored"] == 3
    assert len(rows(shell("search", store, *SEARCH))) == 2
