"""docs/datasets.md says of every data set where it is, how large, under which licence, and how to
get it.
"""

from __future__ import annotations

import re
import subprocess

import pytest

from kvtool.datasets import DATASETS, open_dataset, parse_spec
from kvtool.errors import DatasetError
from tests.support.command_lines import kvtool_lines, parse
from tests.tools.source import ROOT

PAGE = (ROOT / "docs" / "datasets.md").read_text("utf-8")
LOCAL = {"folder", "video", "own", "scenes"}
"""What is the reader's own, or drawn."""
PUBLISHED = sorted(set(DATASETS.names()) - LOCAL)


def section(name: str) -> str:
    """Return the text below a heading of the page."""
    return PAGE.partition(f"\n## {name}\n")[2].partition("\n## ")[0]


def commands(name: str) -> str:
    """Return the commands that get a data set."""
    (block,) = re.findall(r"```bash\n(.*?)```", section(name), re.DOTALL)
    return str(block)


def test_every_data_set_is_in_the_table() -> None:
    rows = re.findall(r"^\| (`.*?) \|", section("Where to get them"), re.MULTILINE)
    assert sorted(name for row in rows for name in re.findall(r"`([\w-]+)`", row)) == sorted(
        DATASETS.names()
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_row_has_project_size_and_licence(name: str) -> None:
    rows = section("Where to get them").splitlines()
    (row,) = (line for line in rows if line.startswith(f"| `{name}` |"))
    project, size, licence, access = (cell.strip() for cell in row.split("|")[2:6])
    assert re.search(r"\]\(https?://", project)
    assert re.search(r"\d|not checked", size)
    assert licence
    assert access


@pytest.mark.sampled
@pytest.mark.parametrize("name", PUBLISHED)
def test_commands_are_shell_and_end_with_a_check_of_the_data_set(name: str) -> None:
    script = commands(name)
    checked = subprocess.run(
        ["bash", "-n"], input=script, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")
    (words,) = kvtool_lines(script)
    assert script.splitlines()[-1] == "kvtool " + " ".join(words)
    spec = parse_spec(parse(words).params["spec"])
    assert spec.name == name
    with pytest.raises(DatasetError):  # the split is one, the folder is not there
        open_dataset(spec)
