"""docs/cli.md, generated from every command's --help: python -m kvtool.cli.reference > docs/cli.md."""

from __future__ import annotations

from typer.testing import CliRunner

from kvtool.cli.app import app

WIDTH = "100"
COMMANDS: tuple[tuple[str, ...], ...] = (
    (),
    ("extract",),
    ("probe",),
    ("variance",),
    ("knockout",),
    ("paired",),
    ("prefix",),
    ("correlate",),
    ("score",),
    ("score", "davis"),
    ("score", "imagenet-s"),
    ("score", "bdd10k"),
    ("score", "spair"),
    ("score", "pope"),
    ("score", "mme"),
    ("search",),
    ("show",),
    ("report",),
    ("store",),
    ("store", "info"),
    ("store", "runs"),
    ("store", "verify"),
    ("store", "repair"),
    ("store", "prune"),
    ("store", "remove"),
    ("data",),
    ("data", "scenes"),
    ("models",),
    ("datasets",),
    ("demo",),
)


def help_text(command: tuple[str, ...]) -> str:
    """What `kvtool COMMAND --help` prints at a fixed width."""
    env = {"COLUMNS": WIDTH, "TERMINAL_WIDTH": WIDTH, "NO_COLOR": "1", "TERM": "dumb"}
    return CliRunner().invoke(app, [*command, "--help"], prog_name="kvtool", env=env).output.rstrip()


def reference() -> str:
    parts = ["# Commands\n\nGenerated from `--help` by `make docs`; a test compares.\n"]
    for command in COMMANDS:
        parts.append(f"## {' '.join(('kvtool', *command))}\n\n```\n{help_text(command)}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(reference(), end="")
