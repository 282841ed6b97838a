"""`--engine slurm`: the script that is written, what it does when it is run, what is refused."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

import kvtool
from kvtool.engine.slurm import SlurmArray
from kvtool.store.verify import verify
from tests.support.planted import planted_model, planted_pope
from tests.support.shell import Shell

SBATCH = """#!/bin/bash
# Runs the tasks of an array at once, as a cluster with free nodes does.
tasks=$(sed -n 's/^#SBATCH --array=0-//p' "$1")
for task in $(seq 0 "$tasks"); do
    SLURM_JOB_ID=$((70 + task)) SLURM_ARRAY_TASK_ID=$task bash "$1" >"task-$task.log" 2>&1 &
done
wait
echo Submitted batch job 70
"""
REFUSAL = "#!/bin/bash\necho 'sbatch: error: invalid partition specified' >&2\nexit 1\n"


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a benchmark, and a store of its pictures, of which nothing was asked."""
    folder = tmp_path_factory.mktemp("extracted")
    model, pope = planted_model(folder / "model"), planted_pope(folder / "pope", 2)
    kvtool.extract(
        folder / "s.kv", model=str(model), dataset=f"pope:{pope}", kinds=("key", "value")
    )
    return folder


@pytest.fixture
def knockout(extracted: Path, folder: Path) -> tuple[str, ...]:
    """A command of which all work lacks."""
    shutil.copytree(extracted / "s.kv", folder / "s.kv")
    (folder / "a pope").symlink_to(extracted / "pope")
    return ("knockout", "s.kv", "--benchmark", "pope:a pope", "--heads=0:1")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, whose programs come before all others."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def options_of(script: str) -> list[str]:
    """What a script asks sbatch for."""
    lines = [line for line in script.splitlines() if line.startswith("#SBATCH ")]
    return [line.removeprefix("#SBATCH ") for line in lines]


def last_command(script: str) -> str:
    """The command of a script, without its interpreter."""
    (line,) = (line for line in script.splitlines() if line.endswith("&"))
    return line.partition(" -m ")[2].removesuffix(" &")


def array(folder: Path, *words: str) -> SlurmArray:
    """An array of one task that runs other words than a command's."""
    return SlurmArray(words, "probe", ("cpu",), cpus_per_worker=1, folder=folder)


@pytest.mark.slow
def test_the_script_is_written_and_how_to_submit_it_is_told(
    folder: Path, knockout: tuple[str, ...], shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(folder))
    line = (*knockout, "--engine=slurm")
    devices = ("--devices", "cuda:0+cuda:1,cuda:2+cuda:3", "--cpus-per-worker", 8)
    code, out, err = shell(*line, *devices)
    (script,) = folder.glob("kvtool-knockout-*.sbatch")
    assert (code, out) == (0, "")
    assert err == [
        f"{script}: written for 2 tasks",
        f"no sbatch here: submit it where there is one, with sbatch {script}",
        "the same command without --engine gives the result once they are done",
    ]
    text = script.read_text()
    for option in ("--array=0-1", "--gres=gpu:2", "--cpus-per-task=8", "--requeue"):
        assert option in options_of(text)
    assert "--signal=B:USR1@120" in options_of(text)
    assert f"--chdir={folder}" in options_of(text)
    assert last_command(text) == (
        "kvtool knockout s.kv --benchmark 'pope:a pope' --heads=0:1 --engine local "
        "--devices cuda:0+cuda:1 --wait 900"
    )
    # The same command has the same script.
    shell(*line, *devices)
    assert list(folder.glob("*.sbatch")) == [script]
    # Other tasks have another, and what its user wrote into it stays.
    script.write_text(text.replace("#!/bin/bash\n", "#!/bin/bash\n#SBATCH --partition=gpu\n"))
    code, _, err = shell(*line, *devices)
    assert (code, len(err)) == (1, 1)
    assert "found another one, perhaps changed by hand; submit it with sbatch kvtool-" in err[0]
    assert "--partition=gpu" in options_of(script.read_text())
    shell(*line, "--devices", "cpu")
    assert len(list(folder.glob("*.sbatch"))) == 2


@pytest.mark.slow
def test_tasks_wait_as_long_as_the_command_line_says(
    folder: Path, knockout: tuple[str, ...], shell: Shell
) -> None:
    program(folder / "sbatch", "#!/bin/bash\n")
    code, _, err = shell(*knockout, "--wait", 5, "--engine", "slurm", "--devices", "cpu")
    assert (code, err[0].endswith("written for 1 task")) == (0, True)
    (script,) = folder.glob("*.sbatch")
    command = last_command(script.read_text())
    assert command.endswith("--heads=0:1 --wait 5 --engine local --devices cpu")
    assert not [line for line in options_of(script.read_text()) if "gres" in line]


@pytest.mark.slow
def test_flags_of_tasks_stand_before_what_is_no_flag(
    folder: Path, knockout: tuple[str, ...], shell: Shell
) -> None:
    program(folder / "sbatch", "#!/bin/bash\n")
    command, store, *flags = knockout
    code, _, _ = shell(command, *flags, "--engine", "slurm", "--devices", "cpu", "--", store)
    (script,) = folder.glob("*.sbatch")
    assert code == 0
    assert last_command(script.read_text()).endswith(
        "--heads=0:1 --engine local --devices cpu --wait 900 -- s.kv"
    )


@pytest.mark.slow
def test_what_is_kept_is_given_at_once(
    folder: Path, knockout: tuple[str, ...], shell: Shell
) -> None:
    code, expected, _ = shell(*knockout, "--format", "json")
    line = (*knockout, "--format", "json", "--engine", "slurm", "--devices", "cuda:0,cuda:1")
    assert (code, shell(*line)[:2]) == (0, (0, expected))
    assert not list(folder.glob("*.sbatch"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"s.kv": "gone.kv"}, "gone.kv"),
        ({"pope:a pope": "pope:gone"}, "gone"),
        ({"--heads=0:1": "--heads=99:0"}, "heads"),
    ],
)
def test_a_request_that_is_wrong_is_not_submitted(
    folder: Path,
    knockout: tuple[str, ...],
    shell: Shell,
    changes: dict[str, str],
    reason: str,
) -> None:
    line = [changes.get(word, word) for word in knockout]
    code, out, err = shell(*line, "--engine", "slurm", "--devices", "cuda:0")
    assert (code in (1, 2), out, len(err)) == (True, "", 1)
    assert reason in err[0]
    assert not list(folder.glob("*.sbatch"))


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (("--answers", "a.jsonl"), "expected no --answers"),
        (("--plot", "a.pdf"), "expected no --plot"),
        (("--fresh",), "expected no --fresh"),
        (("--devices", "cpu,cuda:0"), "expected workers on equal devices"),
        (("--devices", "auto"), "expected --devices, a task for each, found none"),
        ((), "expected --devices, a task for each, found none"),
    ],
)
def test_what_tasks_cannot_share_is_refused(
    folder: Path, shell: Shell, flags: tuple[str, ...], reason: str
) -> None:
    line = ("knockout", "s.kv", "--benchmark", "pope:a", "--heads", "0:1", "--engine", "slurm")
    code, _, err = shell(*line, *flags)
    assert (code, len(err)) == (2, 1)
    assert reason in err[0]
    assert not list(folder.glob("*.sbatch"))


def test_a_refusal_of_sbatch_is_told(folder: Path, knockout: tuple[str, ...], shell: Shell) -> None:
    program(folder / "sbatch", REFUSAL)
    code, _, err = shell(*knockout, "--engine", "slurm", "--devices", "cpu")
    assert (code, len(err)) == (1, 1)
    assert "invalid partition specified; options of this cluster" in err[0]


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize(
    ("number", "code", "queued"),
    [(signal.SIGUSR1, 0, "requeue 77\n"), (signal.SIGTERM, 143, None)],
)
def test_near_the_limit_a_task_is_queued_again_and_where_canceled_not(
    folder: Path, number: signal.Signals, code: int, queued: str | None
) -> None:
    """The signal goes to the script alone, as sbatch's `B:` has it; claims are released."""
    program(folder / "scontrol", '#!/bin/bash\necho "$@" >queued\n')
    stand_in = "trap 'echo released >ended; exit 143' TERM; echo >begun; sleep 100 & wait"
    job = array(folder, "bash", "-c", stand_in)
    script = job.write(job.script())
    environment = os.environ | {"SLURM_JOB_ID": "77"}
    process = subprocess.Popen(["bash", script], env=environment, start_new_session=True)
    while not (folder / "begun").exists():
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(timeout=60) == code
    assert (folder / "ended").read_text() == "released\n"
    queue = folder / "queued"
    assert (queue.read_text() if queue.exists() else None) == queued
    os.killpg(process.pid, signal.SIGKILL)  # the stand-in's sleep


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (3, 0), (1, 1), (4, 4)])
def test_a_task_that_has_nothing_left_to_do_is_no_failure(
    tmp_path: Path, code: int, expected: int
) -> None:
    job = array(tmp_path, "bash", "-c", f"exit {code}")
    assert subprocess.run(["bash", job.write(job.script())], check=False).returncode == expected


@pytest.mark.slow
@pytest.mark.alone
def test_the_tasks_of_an_array_share_the_work(
    folder: Path, tiny_model: Path, pictures: Path, shell: Shell
) -> None:
    program(folder / "sbatch", SBATCH)
    line = ("extract", "s.kv", "--model", tiny_model, "--dataset", f"folder:{pictures}")
    code, out, err = shell(*line, "--engine", "slurm", "--devices", "cpu,cpu")
    assert (code, out, err[1]) == (0, "", "Submitted batch job 70")
    logs = [path.read_text() for path in sorted(folder.glob("task-*.log"))]
    store = kvtool.open(folder / "s.kv")
    assert (len(logs), len(store.run().samples)) == (2, 70), logs
    assert verify(store) == []
    # Whoever asks after them is given what there is: nothing is left to do.
    assert shell(*line)[0] == 0
