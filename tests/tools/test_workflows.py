"""What outside CI, pre-commit and the package's metadata name is there: targets, tools, files,
papers."""

from __future__ import annotations

import re
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def commands_of(workflow: Any) -> list[str]:
    """The shell lines of all steps."""
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    return [line for step in steps for line in step.get("run", "").splitlines()]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_runs_targets_that_make_has(path: Path) -> None:
    commands = commands_of(read_yaml(path))
    targets = [match[1] for line in commands if (match := re.match(r"make (\w+)", line))]
    assert targets
    for target in targets:
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), target


def test_the_workflow_tries_every_python_that_is_promised() -> None:
    (job,) = (job for job in read_yaml(WORKFLOWS[0])["jobs"].values() if "strategy" in job)
    tried = {entry["python"] for entry in job["strategy"]["matrix"]["include"]}
    promised = {
        version
        for classifier in PROJECT["classifiers"]
        if (version := classifier.rpartition(" :: ")[2]).startswith("3.")
    }
    assert tried == promised


def hooks() -> list[Any]:
    repositories = read_yaml(ROOT / ".pre-commit-config.yaml")["repos"]
    return [hook for repository in repositories for hook in repository["hooks"]]


@pytest.mark.parametrize("hook", hooks(), ids=lambda hook: hook["id"])
def test_a_hook_runs_a_tool_of_the_environment(hook: Any) -> None:
    """A program that `make setup` installs, or a module of this repository."""
    program, *arguments = hook["entry"].split()
    folder, _, tool = program.rpartition("/")
    assert folder == ".venv/bin"
    if tool == "python":
        assert arguments[0] == "-m"
        assert find_spec(arguments[1]) is not None
    else:
        tools = {re.split("[<>=]", line)[0] for line in PROJECT["optional-dependencies"]["dev"]}
        assert tool in tools


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_an_issue_form_can_be_read(path: Path) -> None:
    form = read_yaml(path)
    if path.name != "config.yml":
        assert {"name", "description", "body"} <= set(form)
        assert all(part["type"] for part in form["body"])


def test_the_package_names_the_papers_of_the_citation() -> None:
    citation = read_yaml(ROOT / "CITATION.cff")
    assert sorted(PROJECT["urls"].values()) == sorted(
        reference["url"] for reference in citation["references"]
    )
