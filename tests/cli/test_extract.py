"""The commands as a shell sees them: exit codes, one line of error, data on standard output
only.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.shell import LineShell, Shell, in_lines


@pytest.fixture
def kvtool(shell: Shell) -> LineShell:
    """Run a command in this process: (exit code, lines of standard output, lines of standard
    error).
    """
    return in_lines(shell)


@pytest.fixture
def few(tmp_path: Path, pictures: Path) -> Path:
    folder = tmp_path / "few"
    folder.mkdir()
    for i in range(4):
        shutil.copy(pictures / f"{i:03d}.png", folder)
    return folder


def test_extract_twice_and_look(
    kvtool: LineShell, tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    command = ("extract", tmp_path / "s.kv", "--model", tiny_model, "--dataset", f"folder:{few}")
    code, out, _ = kvtool(*command)
    assert code == 0
    assert json.loads(out[0])["extracted"] == 4
    code, out, err = kvtool(*command)
    assert code == 0
    assert json.loads(out[0])["already_stored"] == 4
    assert err[-1].startswith("nothing to do")
    code, out, _ = kvtool("store", "runs", tmp_path / "s.kv", "--format", "json")
    assert code == 0
    (run,) = json.loads("\n".join(out))
    assert run["images"] == 4
    code, out, _ = kvtool("store", "runs", tmp_path / "s.kv", "--format", "table")
    assert "4 of 4" in "".join(out)
    assert max(map(len, out)) <= 80
    code, out, _ = kvtool("store", "verify", tmp_path / "s.kv")
    assert (code, out) == (0, [])
    code, out, _ = kvtool("store", "info", tmp_path / "s.kv")
    assert json.loads(out[0])["runs"] == 1
    code, _, err = kvtool("store", "remove", tmp_path / "s.kv", run["run"], "--yes")
    assert code == 0
    assert kvtool("store", "runs", tmp_path / "s.kv")[1] == []


def test_dry_run_writes_nothing(
    kvtool: LineShell, tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    code, out, err = kvtool(
        "extract",
        tmp_path / "s.kv",
        "--model",
        tiny_model,
        "--dataset",
        f"folder:{few}",
        "--dry-run",
    )
    assert code == 0
    assert json.loads(out[0])["n_todo"] == 4
    assert "free" in err[-1]
    assert not (tmp_path / "s.kv").exists()


def test_what_another_prefix_left_is_reused_and_said(
    kvtool: LineShell, tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    command = (
        "extract",
        tmp_path / "s.kv",
        "--model",
        tiny_model,
        "--dataset",
        f"folder:{few}",
        "--limit",
        2,
    )
    (first,) = map(json.loads, kvtool(*command)[1])
    table = tmp_path / "texts.csv"
    table.write_text("image,text\n000.png,cat\n001.png,dog\n")
    code, out, err = kvtool(*command, "--prefix", f"file:{table}", "--dry-run")
    assert (code, json.loads(out[0])["source"]) == (0, first["run"])
    assert first["run"] in err[0]
    code, out, err = kvtool(*command, "--prefix", f"file:{table}")
    assert (code, json.loads(out[0])["reused"]) == (0, 2)
    assert (
        f"projected features of the images that run {first['run']} holds come from there "
        "(--no-reuse)" in err
    )
    code, out, err = kvtool(*command, "--prefix", "random", "--no-reuse")
    assert (code, json.loads(out[0])["reused"], err) == (0, 0, [])


def test_a_flipped_byte_is_named(
    kvtool: LineShell, tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    kvtool("extract", tmp_path / "s.kv", "--model", tiny_model, "--dataset", f"folder:{few}")
    shard = next((tmp_path / "s.kv").rglob("value/c*"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 3] ^= 1
    shard.write_bytes(data)
    code, out, err = kvtool("store", "verify", tmp_path / "s.kv")
    assert code == 1
    (problem,) = map(json.loads, out)
    assert (problem["part"], problem["array"]) == ("0000000-0000004", "value")
    assert "found 1" in err[-1]


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


def test_probe_all_where_there_is_no_task(
    kvtool: LineShell, tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    kvtool("extract", tmp_path / "s.kv", "--model", tiny_model, "--dataset", f"folder:{few}")
    code, out, err = kvtool("probe", tmp_path / "s.kv", "all")
    assert (code, out, len(err)) == (2, [], 1)
    assert "is over folder, which serves no task" in err[0]


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


def test_the_log_file_has_the_command_and_what_came_of_it(
    kvtool: LineShell, tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    for i in range(30):
        (few / f"{i:03d}.png").write_bytes(b"")
    command = ("extract", tmp_path / "s.kv", "--model", tiny_model, "--dataset", f"folder:{few}")
    code, _, err = kvtool("--log-file", tmp_path / "log", *command)
    assert code == 1
    assert len(err) == 22
    assert err[20] == "... and 10 more: -v and --log-file list all"
    log = (tmp_path / "log").read_text()
    assert f"DEBUG kvtool 0.1.0: --log-file {tmp_path / 'log'} extract {tmp_path / 's.kv'}" in log
    assert all(f"{i:03d}.png" in log for i in range(30))
    assert "extracted 0, stored_by_others 0, failed 30" in log


@pytest.mark.slow
def test_paths_from_standard_input(tmp_path: Path, tiny_model: Path, few: Path) -> None:
    """In a process of its own, as in a pipe; with two workers the list still is read once."""
    paths = "\n".join(str(path) for path in sorted(few.iterdir())) + "\n\n"
    command = [
        sys.executable,
        "-m",
        "kvtool",
        "extract",
        str(tmp_path / "s.kv"),
        "--model",
        str(tiny_model),
    ]
    done = subprocess.run(
        [*command, "--dataset", "folder:-", "--devices", "cpu,cpu", "--wait", "60"],
        input=paths,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["extracted"] == 4
    none = subprocess.run(
        [*command, "--dataset", "folder:-"], input="", capture_output=True, text=True, check=False
    )
    assert none.returncode == 1
    assert len(none.stderr.splitlines()) == 1


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("key/c.0.0.0.0", Path.unlink),
        ("value/c.1.0.0.0", shorten),
        ("projected/zarr.json", Path.unlink),
        ("text_key/c.0.0.0.0", shorten),
    ],
)
def test_a_run_that_lost_a_file_is_not_done(
    kvtool: LineShell,
    tmp_path: Path,
    tiny_model: Path,
    few: Path,
    file: str,
    damage: Callable[[Path], object],
) -> None:
    command = ("extract", tmp_path / "s.kv", "--model", tiny_model, "--dataset", f"folder:{few}")
    assert kvtool(*command)[0] == 0
    (run,) = (tmp_path / "s.kv" / "runs").glob("*-*")
    path = run / "parts" / "0000000-0000004" / file
    before = path.read_bytes()
    damage(path)
    for call in (command, (*command, "--dry-run")):
        code, _, err = kvtool(*call)
        assert code == 1
        assert "part 0000000-0000004" in err[-1]
        assert file.partition("/")[2] in err[-1]
        assert "`kvtool store repair`" in err[-1]
    assert (path.parent.parent / "value" / "zarr.json").exists()  # nothing was dropped
    assert kvtool("store", "repair", tmp_path / "s.kv")[0] == 0
    code, out, _ = kvtool(*command)
    assert code == 0
    assert json.loads(out[0])["extracted"] == 4
    assert path.read_bytes() == before
