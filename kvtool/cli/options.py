"""Flags and arguments that several commands share: what each is called, takes and means.

A command's signature lists them by these names; what stands in one command alone is defined beside
that command. kvtool.cli.parsing has the small languages in them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from kvtool.bounds import BOUNDS
from kvtool.cli.completion import complete_data_set, complete_run
from kvtool.cli.parsing import device_name, device_names, finite
from kvtool.errors import UsageError
from kvtool.result import RowChoice
from kvtool.types import Precision, VectorKind

Format = Literal["auto", "table", "json", "jsonl", "csv"]
Select = Literal["max", "split"]


def bounded(name: str, *flags: str, **about: Any) -> Any:
    """Return the option of a number whose bounds are in kvtool.bounds under this name; by default
    the flag has it too.
    """
    low, high = BOUNDS[name]
    return typer.Option(
        *(flags or (f"--{name.replace('_', '-')}",)), min=low, max=high, callback=finite, **about
    )


# The store, its runs, and which of their vectors.


def store_argument(completion: Callable[..., list[str]] | None = None) -> Any:
    """Return the argument STORE; `completion` gives what Tab offers in its place."""
    return typer.Argument(
        metavar="[STORE]",
        autocompletion=completion,
        help="The store. The default is $KVTOOL_STORE.",
    )


def task_argument(completion: Callable[..., list[str]], help: str = "The task.") -> Any:
    """Return the argument TASK, which stands behind STORE."""
    return typer.Argument(metavar="TASK", autocompletion=completion, help=help)


StoreArgument = Annotated[Path | None, store_argument()]
StoresArgument = Annotated[
    list[Path] | None,
    typer.Argument(metavar="[STORE]...", help="The stores. The default is $KVTOOL_STORE."),
]
RunOption = Annotated[
    str | None,
    typer.Option(
        "--run",
        autocompletion=complete_run,
        help="The run, where a store holds several: its name, a beginning that no other has, or "
        "what it is of, as dataset=spair71k,model=demo.",
    ),
]
RunsOption = Annotated[
    str | None, typer.Option("--runs", help="Use these runs only, comma-separated.")
]
KindOption = Annotated[
    VectorKind | None,
    typer.Option("--kind", help="Kind of the vectors. The default is value, else what is stored."),
]
KindsOption = Annotated[
    str | None,
    typer.Option(
        "--kinds", metavar="KINDS", help="Comma-separated: key, value, projected, vision, hidden."
    ),
]
StoredKindsOption = Annotated[
    str | None,
    typer.Option(
        "--kinds",
        metavar="KINDS",
        help="Comma-separated: key, value, projected, vision, which are the default; hidden, the "
        "residual stream after each layer; saliency beside them, where the tower has a class "
        "token or a pooling head.",
    ),
]
LayersOption = Annotated[
    str | None,
    typer.Option(
        "--layers",
        metavar="LAYERS",
        help="Layers: numbers such as 0-7,14, or early, middle, late or last:N; default: all.",
    ),
]
HeadsOption = Annotated[
    str | None,
    typer.Option("--heads", metavar="HEADS", help="KV heads: numbers such as 0-3,5; default: all."),
]
TokensOption = Annotated[
    str,
    typer.Option(
        "--tokens",
        metavar="all|NUMBER",
        help="Number of tokens to read of each image, drawn from all over it; all reads every one.",
    ),
]
OutlierOption = Annotated[
    float,
    bounded(
        "outlier",
        help="Leave out tokens whose vector is longer than N times the text's median length in "
        "the layer.",
    ),
]

# The data set, and how much of it.


def data_set_option(help: str) -> Any:
    """Return the option of a data set by its name, folder and split."""
    return typer.Option(
        "--dataset",
        metavar="NAME[:PATH][@SPLIT]",
        autocompletion=complete_data_set,
        help=help,
    )


DataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="[NAME=]PATH",
        help="Where the data set is now, if not where it was extracted from.",
    ),
]
DataFoldersOption = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="NAME=PATH",
        help="Where the data set NAME is now, if not where it was extracted from; repeatable.",
    ),
]
ImagesOption = Annotated[int | None, bounded("limit", help="Use only the first N images.")]
CaptionedImagesOption = Annotated[
    int | None, bounded("limit", help="Use only the first N images that have captions.")
]
UnitsOption = Annotated[
    int | None, bounded("limit", help="Largest number of sampling units of a task to use.")
]
SelectOption = Annotated[
    Select,
    typer.Option(
        "--select",
        help="Choose the best block on the data it is scored on (max), or on the other half of it "
        "(split).",
    ),
]

# The model, and how it answers.

ModelFolderOption = Annotated[
    str | None, typer.Option("--model", help="Folder of the run's model, if it moved.")
]
ModelOfRunsOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Folder of the run's model, if it moved; or, where there is no run yet, the model.",
    ),
]
DtypeOption = Annotated[
    Precision, typer.Option("--dtype", help="Precision in which the model runs.")
]
AttentionOption = Annotated[
    str, typer.Option("--attention", help="transformers' backend: sdpa, eager, ...")
]
StyleOption = Annotated[
    Literal["plain", "lmms-eval", "vlmevalkit"],
    typer.Option("--style", help="Word questions as the benchmark or a common evaluator does."),
]
AfterQuestionOption = Annotated[
    str,
    typer.Option(
        "--after-question", metavar="TEXT", help="Put a text after every question, on its own line."
    ),
]
QuestionDtypeOption = Annotated[
    Precision | None,
    typer.Option(
        "--question-dtype",
        help="Precision in which questions are answered. The default is that of the run.",
    ),
]
MaxNewTokensOption = Annotated[
    int, bounded("max_new_tokens", help="Number of tokens after which an answer is cut.")
]
AnswersOption = Annotated[
    Path | None,
    typer.Option(
        "--answers",
        metavar="FILE",
        help="Write every question and answer to a file, as JSON lines.",
    ),
]

# Where and how it is computed.

DEVICE_FLAGS = ("--device", "--devices")
"""Both spellings, in every command; how many devices a command takes is its own matter."""
DeviceOption = Annotated[
    str,
    typer.Option(
        *DEVICE_FLAGS,
        metavar="DEVICE",
        callback=device_name,
        help="Where to compute: auto, cpu, cuda or cuda:N; or devices that hold one model, joined "
        "by a plus: cuda:0+cuda:1, cuda:0+cpu, cpu+disk:DIR.",
    ),
]
DevicesOption = Annotated[
    str,
    typer.Option(
        *DEVICE_FLAGS[::-1],
        metavar="DEVICE[,DEVICE...]",
        callback=device_names,
        help="Where to compute: auto, cpu, cuda or cuda:N. A comma separates workers, a process "
        "each; a plus joins devices that hold one model: cuda:0+cuda:1, cuda:0+cpu, cpu+disk:DIR.",
    ),
]


def seed_of(what: str) -> Any:
    """Return the option of a random seed: `what` says what is drawn by it."""
    return bounded("seed", help=f"Random seed of {what}.")


FreshOption = Annotated[
    bool, typer.Option("--fresh", help="Compute again, even if the store holds the result.")
]
FreshAnswersOption = Annotated[
    bool, typer.Option("--fresh", help="Ask again, even if the store holds the answers.")
]
WaitOption = Annotated[
    float,
    bounded(
        "wait_s",
        "--wait",
        help="Seconds to wait for what other processes are at, when all else is done.",
    ),
]

# How the result is shown.

PlotOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--plot",
        metavar="FILE",
        help="Also draw the result: .png, .svg or .pdf, for print; repeatable.",
    ),
]
FormatOption = Annotated[
    Format,
    typer.Option(
        "--format", help="Of the data on standard output. auto: a table on a terminal, else jsonl."
    ),
]
RowsOption = Annotated[
    RowChoice,
    typer.Option(
        "--rows",
        help="Rows to print: summary, those about all that was scored; all also has those about "
        "a category, a threshold or a subset. json has all.",
    ),
]


def need_store(store: Path | None) -> Path:
    """Return the store argument, or $KVTOOL_STORE. Raises UsageError where neither is given."""
    if store is not None:
        return store
    if path := os.environ.get("KVTOOL_STORE"):
        return Path(path)
    raise UsageError("STORE: expected a path as argument or in $KVTOOL_STORE, found neither")


def store_and_word(store: str | None, word: str | None, what: str) -> tuple[Path, str]:
    """`STORE WORD`, or `WORD` alone where $KVTOOL_STORE names the store."""
    if word is None and store is not None and os.environ.get("KVTOOL_STORE"):
        return need_store(None), store
    if word is None:
        raise UsageError(f"{what}: expected after STORE, found none")
    return need_store(None if store is None else Path(store)), word
