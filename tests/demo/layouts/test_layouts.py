"""write_scenes: same bytes for the same seed, nothing half-written, nothing overwritten."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kvtool.demo import layouts
from kvtool.demo.layouts import LAYOUTS, write_scenes
from kvtool.demo.layouts.files import Size, save_text
from kvtool.errors import DatasetError, UsageError
from kvtool.registry import Registry


def digest(folder: Path) -> str:
    """Hash of all names and bytes under the folder."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        total.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


@pytest.mark.slow
def test_same_seed_gives_the_same_bytes_one_by_one_and_in_any_order(
    world: Path, tmp_path: Path
) -> None:
    for name in reversed(LAYOUTS.names()):
        write_scenes(tmp_path, only=[name])
    for name in LAYOUTS.names():
        assert digest(tmp_path / name) == digest(world / name), name
    assert digest(tmp_path) == digest(world)


@pytest.mark.slow
def test_another_seed_gives_other_pictures(world: Path, tmp_path: Path) -> None:
    write_scenes(tmp_path, seed=1, only=["msrc"])
    first = sorted((tmp_path / "msrc").rglob("*.jpg"))
    assert first
    for path in first[:10]:
        assert path.read_bytes() != (world / path.relative_to(tmp_path)).read_bytes()


@pytest.mark.slow
def test_reports_what_it_wrote_and_then_has_nothing_to_do(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    counts = write_scenes(tmp_path, only=["msrc"], progress=lambda *step: seen.append(step))
    assert counts == {"msrc": len(list(tmp_path.rglob("*.jpg")))}
    assert seen == [("msrc", 0, 1)]
    assert write_scenes(tmp_path, only=["msrc"]) == {}


@pytest.mark.slow
def test_pope_brings_the_images_it_asks_about(tmp_path: Path) -> None:
    assert list(write_scenes(tmp_path, only=["pope"])) == ["coco", "pope"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("field", "options"), [("seed", {"seed": 3}), ("size", {"size": "medium"})]
)
def test_scenes_of_another_kind_are_left_alone(
    tmp_path: Path, field: str, options: dict[str, int]
) -> None:
    write_scenes(tmp_path, only=["msrc"])
    before = digest(tmp_path)
    with pytest.raises(
        DatasetError, match=rf"holds scenes of {field} .*, asked for .*: choose another folder"
    ):
        write_scenes(tmp_path, only=["davis"], **options)  # type: ignore[arg-type]
    assert digest(tmp_path) == before


def test_foreign_folders_and_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "coco").mkdir()
    with pytest.raises(DatasetError, match=r"coco: exists without a scenes.json"):
        write_scenes(tmp_path, only=["msrc"])
    assert [path.name for path in tmp_path.iterdir()] == ["coco"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(DatasetError, match="expected a folder"):
        write_scenes(tmp_path / "file")
    with pytest.raises(DatasetError, match="cannot be written here"):
        write_scenes(tmp_path / "file" / "below")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "scenes.json").write_text("[1, 2")
    with pytest.raises(DatasetError, match="expected a scenes folder's manifest"):
        write_scenes(tmp_path / "other")


def test_bad_requests(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'spair71k'"):
        write_scenes(tmp_path, only=["spair"])
    with pytest.raises(UsageError, match="size must be one of small, medium, large"):
        write_scenes(tmp_path, size="tiny")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="seed must be 0 or more"):
        write_scenes(tmp_path, seed=-1)
    assert not list(tmp_path.iterdir())


def _fails(folder: Path, _seed: int, _size: Size) -> int:
    save_text(folder / "half.txt", "half")
    raise KeyboardInterrupt


@pytest.mark.slow
def test_an_interrupted_data_set_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = {**LAYOUTS.table, "davis": f"{__name__}:_fails"}
    with monkeypatch.context() as patch:
        patch.setattr(layouts, "LAYOUTS", Registry("scenes data set", table))
        with pytest.raises(KeyboardInterrupt):
            write_scenes(tmp_path, only=["davis"])
    assert [path.name for path in tmp_path.iterdir()] == ["scenes.json"]
    assert write_scenes(tmp_path, only=["davis"])["davis"] > 0


@pytest.mark.slow
def test_a_killed_writer_leaves_no_half_and_is_cleaned_up(world: Path, tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from kvtool.demo.layouts import write_scenes\n"
    script += "write_scenes(Path(sys.argv[1]), only=['pascal5i'])"
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], cwd=Path(__file__).parents[3]
    )
    deadline = time.monotonic() + 60
    while (
        not list(tmp_path.glob(".scenes-*/VOC2012/JPEGImages/*.jpg"))
        and time.monotonic() < deadline
    ):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "pascal5i").exists()
    assert list(tmp_path.glob(".scenes-*"))
    write_scenes(tmp_path, only=["pascal5i"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pascal5i", "scenes.json"]
    assert digest(tmp_path / "pascal5i") == digest(world / "pascal5i")


@pytest.mark.slow
def test_two_writers_at_once_agree(world: Path, tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from kvtool.demo.layouts import write_scenes\n"
    script += "write_scenes(Path(sys.argv[1]), only=['msrc', 'davis'])"
    command = [sys.executable, "-c", script, str(tmp_path)]
    writers = [subprocess.Popen(command, cwd=Path(__file__).parents[3]) for _ in range(2)]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["davis", "msrc", "scenes.json"]
    assert digest(tmp_path / "msrc") == digest(world / "msrc")
