"""Quick start and guides: their commands are commands, their figures are there, and no command is
without a guide.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from kvtool.cli.app import app
from tests.support.command_lines import kvtool_lines, parse
from tests.support.shell import Shell
from tests.tools import guides
from tests.tools.readme import FIGURES
from tests.tools.source import ROOT

DOCS = ROOT / "docs"
QUICK = DOCS / "quickstart.md"
PAGES = [QUICK, *sorted((DOCS / "guides").glob("*.md"))]
COMMANDS = sorted(get_command(app).commands)  # type: ignore[attr-defined]


def blocks(page: Path) -> list[str]:
    """Return the shell blocks of a page."""
    return re.findall(r"```bash\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
@pytest.mark.slow
def test_the_commands_of_a_guide_can_be_parsed(page: Path) -> None:
    lines = [words for block in blocks(page) for words in kvtool_lines(block)]
    assert bool(lines) == (page.stem != "index")
    for words in lines:
        if "--help" not in words:  # it would be printed
            parse(words)


def test_every_command_has_a_guide() -> None:
    index = (DOCS / "guides/index.md").read_text("utf-8")
    rows = "".join(line for line in index.splitlines() if line.startswith("| `kvtool"))
    assert sorted(re.findall(r"`kvtool (\w+)`", rows)) == COMMANDS


def test_every_figure_of_the_guides_is_used() -> None:
    text = "".join(page.read_text("utf-8") for page in PAGES)
    text += "".join((DOCS / f"{name}.md").read_text("utf-8") for name in ("attend", "surface"))
    for name in (*guides.FIGURE_OF.values(), *guides.PICTURES):
        assert (FIGURES / f"{name}.png").is_file()
        assert f"figures/{name}.png" in text


@pytest.mark.slow
def test_the_quick_start_runs(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in kvtool_lines(blocks(QUICK)[0]):
        code, _, errors = shell(*words)
        assert code == 0, errors
    assert {"first.kv", "first.png", "first.html"} <= {path.name for path in tmp_path.iterdir()}
