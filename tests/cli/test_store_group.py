"""A command over a store with subcommands beside it: which of them a line calls."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.main import get_command

from kvtool.cli import console
from kvtool.cli.everywhere import add_common_flags
from kvtool.cli.store_group import StoreGroup


def toy() -> Any:
    """A command whose group `sae` prints what it was given."""
    app = typer.Typer(rich_markup_mode=None)
    group = typer.Typer(cls=StoreGroup, no_args_is_help=True, rich_markup_mode=None)

    @group.callback(invoke_without_command=True)
    def sae(
        store: Annotated[Path | None, typer.Argument(metavar="[STORE]", help="The store.")] = None,
        path: Annotated[str, typer.Option("--sae")] = "",
        limit: Annotated[int, typer.Option("--limit")] = 5,
    ) -> None:
        """Read a store."""
        print("store", store, path, limit)

    @group.command("train")
    def train(limit: Annotated[int, typer.Option("--limit")] = 7) -> None:
        """Train one."""
        print("train", limit)

    app.add_typer(group, name="sae")
    app.command("again")(lambda: None)
    command: Any = get_command(app)
    add_common_flags(command)
    return command


def call(line: str) -> int:
    """Run a line; its exit code."""
    console.configure(quiet=False, verbose=False, log_file=None)
    code = toy().main(
        line.split(), prog_name="toy", standalone_mode=False, auto_envvar_prefix="TOY"
    )
    return int(code or 0)


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        ("sae x.kv --sae demo", "store x.kv demo 5"),
        ("sae --sae demo x.kv --limit 3", "store x.kv demo 3"),
        ("sae --sae train x.kv", "store x.kv train 5"),
        ("sae ./train", "store train  5"),
        ("sae -q x.kv -v", "store x.kv  5"),
        ("sae --limit 2", "store None  2"),
        ("sae train", "train 7"),
        ("sae -qv train --limit 2", "train 2"),
        ("sae --quiet train", "train 7"),
    ],
)
def test_the_first_word_is_a_subcommand_or_a_store(
    line: str, printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(line) == 0
    assert capsys.readouterr().out == f"{printed}\n"


def test_flags_are_set_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOY_SAE_LIMIT", "11")
    monkeypatch.setenv("TOY_SAE_TRAIN_LIMIT", "13")
    call("sae x.kv")
    call("sae train")
    assert capsys.readouterr().out == "store x.kv  11\ntrain 13\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("sae x.kv y.kv", "unexpected extra argument"),
        ("sae x.kv --nope", "No such option: --nope"),
        ("sae train x.kv", "unexpected extra argument"),
    ],
)
def test_what_is_too_much_is_refused(line: str, message: str) -> None:
    with pytest.raises(typer.TyperException, match=message):
        call(line)


def test_help_names_the_flags_of_the_store_and_the_subcommands(
    capsys: pytest.CaptureFixture[str],
) -> None:
    call("sae --help")
    text = capsys.readouterr().out
    assert "toy sae [OPTIONS] [[STORE]] | COMMAND [ARGS]..." in text
    assert all(word in text for word in ("--sae", "--limit", "Commands:", "train"))
    call("sae train --help")
    assert "toy sae train [OPTIONS]" in capsys.readouterr().out
