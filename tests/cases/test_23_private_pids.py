"""Four workers in containers of one host: one host name, process ids of their own, one store."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cases.outcomes import rows, told
from tests.cases.spaces import needs
from tests.support import tiny
from tests.support.shell import Shell

PRIVATE = ("--pid", "--fork", "--mount-proc")
WORKERS, IMAGES = 4, 320


@pytest.mark.slow
@needs(*PRIVATE)
def test_no_part_is_torn_or_lost(shell: Shell, tiny_model: Path, tmp_path: Path) -> None:
    pictures, store = tmp_path / "pictures", tmp_path / "s.kv"
    pictures.mkdir()
    for i in range(IMAGES):
        tiny.noise(40, 40, seed=i).save(pictures / f"{i:04d}.png")
    extract = ("extract", str(store), "--model", str(tiny_model), "--dataset", f"folder:{pictures}")
    # The processes that come first let each worker have another id inside of its namespace.
    script = 'for _ in $(seq "$1"); do /bin/true; done; shift; exec "$@"'
    workers = []
    for number in range(1, WORKERS + 1):
        inside = (
            "sh",
            "-c",
            script,
            "sh",
            str(number * 30),
            sys.executable,
            "-m",
            "kvtool",
            "-q",
            *extract,
        )
        workers.append(
            subprocess.Popen(
                ["unshare", *PRIVATE, *inside],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        time.sleep(0.2)
    for worker in workers:
        _, err = worker.communicate(timeout=300)
        # One that comes when others hold all that is left could do nothing, and names a holder.
        assert (worker.returncode, err) == (0, "") or (worker.returncode == 3 and "held by" in err)
    assert any(worker.returncode == 0 for worker in workers)
    assert rows(shell(*extract))[0]["already_stored"] == IMAGES
    told(shell("store", "verify", store), 0, "no problem")
