"""Extractions and probes that fail in part or are refused: exit codes, and one line of error."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.support.shell import LineShell


@pytest.mark.slow
def test_failed_images_are_exit_4_and_listed(
    kvtool: LineShell, tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    (few / "001.png").write_bytes(b"")
    code, out, err = kvtool(
        "extract", tmp_path / "s.kv", "--model", tiny_model, "--dataset", f"folder:{few}"
    )
    assert code == 4
    assert json.loads(out[0])["failed"] == 1
    assert any("001.png" in line for line in err)
    assert err[-1].startswith("kvtool: ")


@pytest.mark.slow
def test_where_all_images_fail_nothing_was_done(
    kvtool: LineShell, tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    for path in few.iterdir():
        path.write_bytes(path.read_bytes()[:60])
    code, out, err = kvtool(
        "extract", tmp_path / "s.kv", "--model", tiny_model, "--dataset", f"folder:{few}"
    )
    assert (code, json.loads(out[0])["extracted"]) == (1, 0)
    assert "images could be extracted, and it holds none; mend the files" in err[-1]


@pytest.mark.slow
def test_pictures_that_cannot_be_listed_are_exit_4_too(
    kvtool: LineShell, tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    (few / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (few / "drawing.svg").write_text("<svg/>")
    (few / "lost.png").symlink_to("nowhere")
    unnamed = few / os.fsdecode(b"caf\xe9.png")  # no UTF-8
    shutil.copy(few / "000.png", unnamed)
    command = ("extract", tmp_path / "s.kv", "--model", tiny_model, "--dataset", f"folder:{few}")
    code, out, err = kvtool(*command)
    row = json.loads(out[0])
    assert (code, row["extracted"], row["failed"], row["left_out"]) == (4, 4, 1, 3)
    for name in ("phone.heic", "drawing.svg", "lost.png", "caf\\xe9.png"):
        assert any(name in line for line in err)
    assert "4 of 8 images failed and were left out" in err[-1]
    (few / "lost.png").unlink()
    code, out, err = kvtool(*command)  # all else is stored already
    row = json.loads(out[0])
    assert (code, row["already_stored"], row["left_out"]) == (4, 4, 3)
    assert "3 of 7 images failed and were left out" in err[-1]
    assert kvtool(*command, "--limit", "4")[0] == 0  # as many as were asked for
    for name in ("phone.heic", "drawing.svg"):
        (few / name).unlink()
    unnamed.unlink()
    assert kvtool(*command)[0] == 0


@pytest.mark.slow
def test_a_name_that_no_id_can_be_is_exit_4_in_a_benchmark(
    kvtool: LineShell, tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    (tmp_path / "coco").mkdir()
    shutil.copytree(few, tmp_path / "coco/val2014")
    shutil.copy(few / "000.png", tmp_path / "coco/val2014" / os.fsdecode(b"caf\xe9.png"))
    data = f"coco:{tmp_path / 'coco'}"
    code, out, err = kvtool(
        "extract", tmp_path / "s.kv", "--model", tiny_model, "--dataset", data, "--kinds", "key"
    )
    assert (code, json.loads(out[0])["left_out"]) == (4, 1)
    assert sum("a name that is not UTF-8" in line for line in err) == 1


@pytest.mark.slow
def test_held_parts_are_exit_3_and_name_the_owner(
    kvtool: LineShell, tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    import kvtool as library

    command = ("extract", tmp_path / "s.kv", "--model", tiny_model, "--dataset", f"folder:{few}")
    kvtool(*command, "--limit", 1)
    with library.open(tmp_path / "s.kv").run().claim("0000000-0000032"):
        code, _, err = kvtool(*command)
    assert code == 3
    assert "held by process" in err[-1]


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["--dataset", "folder:{missing}"], 1, "missing"),
        (["--dataset", "folder:{empty}"], 1, "empty"),
        (["--dataset", "spair71k:{few}"], 1, "Layout/large"),
        (["--dataset", "spairs:{few}"], 2, "did you mean 'spair71k'"),
        (["--dataset", "folder:{few}", "--model", "lava"], 1, "lava"),
        (["--dataset", "folder:{few}", "--model", "{few}"], 1, "config.json"),
        (["--dataset", "folder:{few}", "--layers", "5-x"], 2, "--layers"),
        (["--dataset", "folder:{few}", "--layers", "77"], 2, "77"),
        (["--dataset", "folder:{few}", "--kinds", "keys"], 2, "'keys'"),
        (["--dataset", "folder:{few}", "--prefix", "caption"], 2, "caption"),
        (["--dataset", "folder:{few}", "--devices", "cuda:3"], 2, "CUDA"),
        (["--dataset", "folder:{few}", "--min-free-vram", "lots"], 2, "--min-free-vram"),
        (
            ["--dataset", "folder:{few}", "--min-free-vram", "1GB", "--devices", "cpu"],
            2,
            "expected a CUDA device",
        ),
        (["--dataset", "folder:{few}", "--prefix", "text:"], 2, "--prefix text"),
        (
            ["--dataset", "folder:{few}", "--prefix", "file:{missing}"],
            2,
            "missing: expected a CSV file",
        ),
        (["--dataset", "folder:{few}", "--limit", "0"], 2, "--limit"),
    ],
)
@pytest.mark.sampled
def test_bad_requests_are_one_line(
    kvtool: LineShell,
    tmp_path: Path,
    tiny_model: Path,
    few: Path,
    arguments: list[str],
    code: int,
    expected: str,
) -> None:
    (tmp_path / "empty").mkdir()
    paths = {"few": few, "empty": tmp_path / "empty", "missing": tmp_path / "missing"}
    filled = [argument.format(**paths) for argument in arguments]
    model = [] if "--model" in filled else ["--model", tiny_model]
    status, out, err = kvtool("extract", tmp_path / "s.kv", *model, *filled)
    assert not (tmp_path / "s.kv").exists()
    assert status == code
    assert out == []
    assert expected in err[-1]
    assert "Traceback" not in "\n".join(err)
    assert [path.name for path in (tmp_path / "s.kv").glob("runs/*")] in ([], ["zarr.json"])


@pytest.mark.slow
@pytest.mark.parametrize("command", ["info", "runs", "verify"])
def test_what_is_no_store(kvtool: LineShell, tmp_path: Path, command: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    for name in ("file", "folder", "nothing"):
        code, out, err = kvtool("store", command, tmp_path / name)
        assert (code, out, len(err)) == (1, [], 1)
        assert name in err[0]


def test_a_file_is_no_store_to_extract_into(
    kvtool: LineShell, tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    (tmp_path / "file").write_text("kept")
    code, _, err = kvtool(
        "extract", tmp_path / "file", "--model", tiny_model, "--dataset", f"folder:{few}"
    )
    assert (code, len(err)) == (1, 1)
    assert (tmp_path / "file").read_text() == "kept"


def test_a_store_of_another_version(
    kvtool: LineShell, tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    from kvtool.store.sealed import group_json
    from kvtool.store.store_folder import VERSION_FIELD

    (tmp_path / "s.kv").mkdir()
    (tmp_path / "s.kv" / "zarr.json").write_bytes(group_json({VERSION_FIELD: 999}))
    code, _, err = kvtool(
        "extract", tmp_path / "s.kv", "--model", tiny_model, "--dataset", f"folder:{few}"
    )
    assert code == 1
    assert "version" in err[-1]
    assert "999" in err[-1]


@pytest.mark.slow
def test_probe_all_where_there_is_no_task(
    kvtool: LineShell, tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    kvtool("extract", tmp_path / "s.kv", "--model", tiny_model, "--dataset", f"folder:{few}")
    code, out, err = kvtool("probe", tmp_path / "s.kv", "all")
    assert (code, out, len(err)) == (2, [], 1)
    assert "is over folder, which serves no task" in err[0]


@pytest.mark.slow
def test_probe_says_what_it_left_out_and_refuses_what_no_task_takes(
    kvtool: LineShell, tmp_path: Path, tiny_model: Path
) -> None:
    from kvtool.demo.layouts import write_scenes

    write_scenes(tmp_path / "scenes", only=["spair71k"])
    store, dataset = tmp_path / "s.kv", f"spair71k:{tmp_path / 'scenes' / 'spair71k'}@test"
    kvtool("extract", store, "--model", tiny_model, "--dataset", dataset, "--limit", 6)
    code, out, err = kvtool("probe", store, "all")
    assert code == 0
    assert json.loads(out[0])["n"] > 0
    assert len(err) == 1
    assert err[0].startswith("semantic-correspondence: ")
    assert err[0].endswith("pairs need images that the run does not hold")
    code, out, err = kvtool("probe", store, "all", "--cutoff", "otsu")
    assert (code, out) == (2, [])
    assert err == [
        "kvtool: probe all: no task of this run takes cutoff; its tasks: semantic-correspondence"
    ]
