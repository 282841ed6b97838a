"""The commands as a shell sees them: exit codes, one line of error, data on standard output
only.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.shell import LineShell


@pytest.mark.slow
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
    assert "images 4/4" in " ".join(out)
    assert max(map(len, out)) <= 80
    code, out, _ = kvtool("store", "verify", tmp_path / "s.kv")
    assert (code, out) == (0, [])
    code, out, _ = kvtool("store", "info", tmp_path / "s.kv")
    assert json.loads(out[0])["runs"] == 1
    code, _, err = kvtool("store", "remove", tmp_path / "s.kv", run["run"], "--yes")
    assert code == 0
    assert kvtool("store", "runs", tmp_path / "s.kv")[1] == []


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
