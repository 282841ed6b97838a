"""A model, a data set, a task and an experiment of someone else, as an installed package and as a
file, with the code of the pages that tell how to write them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.support.forked import Forked

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
TASK = "relative-depth-per-pixel"
ENTRIES = """[kvtool.models]
deit = lab.deit:Deit
[kvtool.datasets]
rooms = lab.rooms:Rooms
[kvtool.tasks]
relative-depth-per-pixel = lab.depth:RelativeDepth
[kvtool.experiments]
norms = lab.norms
"""
WH_PX = (48, 40)
N_IMAGES = 6


def blocks(page: str) -> list[str]:
    """The Python of a page, a block each."""
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


def block_with(page: str, line: str) -> str:
    """The one block of a page that has a line."""
    (block,) = [block for block in blocks(page) if line in block]
    return block


MODEL = block_with("adding-a-model.md", "class Deit(Encoder)")
DATASET = block_with("adding-a-dataset.md", "class Rooms(DatasetBase)")
DEPTH = block_with("adding-a-task.md", "class RelativeDepth:")
PARTS = {
    "run": block_with("adding-an-experiment.md", "def norms(target"),
    "command": block_with("adding-an-experiment.md", "store: StoreArgument"),
    "table": block_with("adding-an-experiment.md", "def tables(result)"),
    "plot": block_with("adding-an-experiment.md", "def draw(result)"),
    "article": block_with("adding-an-experiment.md", "def article(summary"),
}


def write_package(folder: Path, entries: str = ENTRIES) -> Path:
    """A folder as pip leaves it: the package `lab` with one of each, and its metadata."""
    package = folder / "lab"
    (package / "norms").mkdir(parents=True)
    files = {"__init__": "", "deit": MODEL, "rooms": DATASET, "depth": DEPTH, "norms/__init__": ""}
    files |= {f"norms/{name}": text for name, text in PARTS.items()}
    for name, text in files.items():
        (package / f"{name}.py").write_text(text, encoding="utf-8")
    return write_metadata(folder, "lab", entries)


def write_metadata(folder: Path, name: str, entries: str) -> Path:
    """What makes a folder on the path an installed package with entry points."""
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir(parents=True, exist_ok=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(entries)
    return folder


def write_file(path: Path) -> Path:
    """The same in one file: its dictionaries name the classes, the experiment's parts are
    objects.
    """

    def without_future(text: str) -> str:
        return text.replace("from __future__ import annotations\n", "")

    parts = [
        "from __future__ import annotations\n",
        *map(without_future, (MODEL, DATASET, DEPTH)),
        'MODELS = {"deit": Deit}\nDATASETS = {"rooms": Rooms}\n',
        f'TASKS = {{"{TASK}": RelativeDepth}}\n',
        without_future(PARTS["run"]).replace("def norms(", "def measure_norms("),
        without_future(PARTS["command"])
        .replace("    from lab.norms import run as experiment\n", "")
        .replace("experiment.norms(", "measure_norms("),
        without_future(PARTS["plot"]),
        block_with("adding-an-experiment.md", "SimpleNamespace(command=norms"),
    ]
    path.write_text("\n\n".join(parts), encoding="utf-8")
    return path


def write_rooms(folder: Path) -> Path:
    """Pictures that get darker with depth, and their depths; one depth map is damaged."""
    rng = np.random.default_rng(0)
    for name in ("images", "depth"):
        (folder / name).mkdir(parents=True)
    columns = np.linspace(0, 1, WH_PX[0])[None].repeat(WH_PX[1], 0)
    for index in range(N_IMAGES):
        slope = columns if index % 2 else columns[:, ::-1]
        depth_mm = (1000 + 3000 * slope).astype(np.uint16)
        shade = 255 * (1 - slope)[..., None] + rng.normal(0, 8, (*slope.shape, 3))
        Image.fromarray(np.clip(shade, 0, 255).astype(np.uint8)).save(
            folder / f"images/room{index}.png"
        )
        Image.fromarray(depth_mm).save(folder / f"depth/room{index}.png")
    (folder / "depth/room5.png").write_bytes(b"no picture")
    return folder


class Kvtool:
    """The command in processes of its own, with folders on Python's path and words before each
    command.
    """

    def __init__(self, folder: Path, paths: list[Path], *words: object) -> None:
        self.folder, self.words = folder, [*map(str, words)]
        python_path = os.pathsep.join(map(str, [ROOT, *paths]))
        cache = os.environ.get("KVTOOL_CACHE", str(folder / "cache"))
        self.environment = {
            **os.environ,
            "PYTHONPATH": python_path,
            "KVTOOL_CACHE": cache,
            "OMP_NUM_THREADS": "1",
        }
        self.environment.pop("KVTOOL_STORE", None)

    def run(self, *words: object) -> subprocess.CompletedProcess[str]:
        """What a command prints and how it ends."""
        line = [sys.executable, "-m", "kvtool", *self.words, *map(str, words)]
        return subprocess.run(
            line, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )

    def rows(self, *words: object) -> list[dict[str, Any]]:
        """The rows of a command that must succeed."""
        done = self.run(*words, "--format", "jsonl")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def error(self, *words: object) -> str:
        """The last line of a command that must be refused, after warnings at most."""
        done = self.run(*words)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        *warnings, line = done.stderr.splitlines()
        assert all("left out: " in warning for warning in warnings)
        return line


class ForkedKvtool(Kvtool):
    """As Kvtool, for commands that need torch: see tests.support.forked."""

    def run(self, *words: object) -> subprocess.CompletedProcess[str]:
        line = [*self.words, *map(str, words)]
        process = Forked(
            "kvtool.__main__:main", *line, folder=self.folder, environment=self.environment
        )
        return subprocess.CompletedProcess(line, *process.communicate())
