"""The pages' links, the functions' reference, and the site as `make docs` builds it."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import kvtool
from tests.tools import links
from tests.tools.source import ROOT


def test_no_link_is_broken() -> None:
    assert list(links.broken_links()) == []


def test_what_is_broken_is_told(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "CHANGELOG.md").write_text("")
    (tmp_path / "README.md").write_text(
        "[a](docs/a.md#two-words) [b](docs/b.md) [c](docs/a.md#three) `[d](e)` [f](https://f.g)\n"
    )
    (tmp_path / "docs/a.md").write_text("# Two words\n```\n# three\n```\n")
    assert list(links.broken_links(tmp_path)) == [
        "README.md: docs/b.md: no such file",
        "README.md: docs/a.md#three: no such heading in a.md",
    ]


def test_every_function_is_in_the_reference() -> None:
    listed = re.findall(r"autofunction:: kvtool\.(\w+)", (ROOT / "docs/api.md").read_text())
    assert set(listed) == set(kvtool.__all__) - {"__version__"}


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("sphinx") is None, reason="needs kvtool[docs]")
def test_the_site_builds_without_a_warning_and_names_no_folder_of_this_machine(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "-q", str(ROOT / "docs")]
    build = subprocess.run(
        [*command, str(tmp_path / "site"), "-d", str(tmp_path / "read")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert build.returncode == 0, build.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    names = {page.relative_to(tmp_path / "site").with_suffix("") for page in pages}
    sources = {path.relative_to(ROOT / "docs").with_suffix("") for path in links.pages()[2:]}
    assert sources <= names
    for page in pages:
        text = page.read_text()
        assert str(ROOT) not in text
        assert str(Path.home()) + "/" not in text


def test_every_page_is_on_the_site() -> None:
    """In the table of contents of its folder's index; Sphinx says so too, but is not everywhere."""
    for index in (ROOT / "docs").rglob("index.md"):
        trees = re.findall(r"```{toctree}\n(.*?)```", index.read_text("utf-8"), re.DOTALL)
        entries = [line for tree in trees for line in tree.splitlines() if line[:1] not in ":"]
        pages = {path for entry in entries for path in index.parent.glob(f"{entry}.md")}
        assert set(index.parent.glob("*.md")) - {index} <= pages
