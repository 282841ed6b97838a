"""kvtool score: put any tool's predictions through the official metrics of a benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from kvtool.cli import console
from kvtool.cli.everywhere import epilog
from kvtool.cli.options import Format, FormatOption
from kvtool.errors import PartialError, UsageError

app = typer.Typer(
    help="Put any tool's predictions through the official metrics of a benchmark.\n\n"
    "Every score comes with its number of sampling units and a 95 % interval over them.",
    epilog=epilog(
        "kvtool score davis --data DAVIS --results masks",
        "kvtool score pope --answers random.jsonl popular.jsonl",
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
)

DataOption = Annotated[Path, typer.Option("--data", metavar="DIR", help="The data set's folder.")]
Split = Literal["val", "train"]


@app.command(
    "davis",
    epilog=epilog(
        "kvtool score davis --data DAVIS --results masks",
        "kvtool score davis --data DAVIS --results masks --format csv",
    ),
)
def davis(
    data: DataOption,
    results: Annotated[
        Path,
        typer.Option("--results", metavar="DIR", help="Folder that holds <sequence>/<frame>.png."),
    ],
    split: Annotated[Split, typer.Option("--split", help="List of sequences to score.")] = "val",
    format: FormatOption = "auto",
) -> None:
    """J and F of video object masks over all objects and of each: means, recall, decay.

    Masks are indexed PNGs as the annotations. The first and the last frame are not scored and need
    no mask.
    """
    _score("davis", "sequences", format, data=data, results=results, split=split)


@app.command(
    "imagenet-s",
    epilog=epilog(
        "kvtool score imagenet-s --data ImageNetS --results maps --classes 50",
        "kvtool score imagenet-s --data ImageNetS --results maps --classes 50 \\\n    --format csv",
    ),
)
def imagenet_s(
    data: DataOption,
    results: Annotated[
        Path, typer.Option("--results", metavar="DIR", help="Folder that holds <wnid>/<name>.png.")
    ],
    classes: Annotated[
        int,
        typer.Option(
            "--classes", metavar="50|300|919", help="Number of classes: one of the three sizes."
        ),
    ],
    split: Annotated[Literal["validation", "train-semi"], typer.Option("--split")] = "validation",
    format: FormatOption = "auto",
) -> None:
    """miou over all classes with background, and the IoU of each.

    Maps are RGB PNGs, id = R + 256 G, as the ground truth. A missing file is a miss; n_missing
    counts them.
    """
    _score("imagenet-s", "images", format, data=data, results=results, classes=classes, split=split)


@app.command(
    "bdd10k",
    epilog=epilog(
        "kvtool score bdd10k --data bdd100k --results maps",
        "kvtool score bdd10k --data bdd100k --results maps --format csv",
    ),
)
def bdd10k(
    data: Annotated[
        Path,
        typer.Option("--data", metavar="DIR", help="The data set's folder, or its label maps'."),
    ],
    results: Annotated[
        Path, typer.Option("--results", metavar="DIR", help="Folder that holds <name>.png.")
    ],
    split: Annotated[Split, typer.Option("--split")] = "val",
    format: FormatOption = "auto",
) -> None:
    """miou over the classes of the ground truth, miou_fgbg, and the IoU of each class.

    Maps are 8-bit PNGs of ids 0 to 18 as the ground truth. A missing file is a miss; n_missing
    counts them.
    """
    _score("bdd10k", "images", format, data=data, results=results, split=split)


@app.command(
    "spair",
    epilog=epilog(
        "kvtool score spair --answers keypoints.jsonl",
        "kvtool score spair --answers - --format json < keypoints.jsonl",
    ),
)
def spair(
    answers: Annotated[
        Path, typer.Option("--answers", metavar="FILE", help="File of JSON lines, a pair each.")
    ],
    format: FormatOption = "auto",
) -> None:
    """pck_image and pck_point at alpha 0.05, 0.1 and 0.15, of all pairs and of each category.

    A line holds a pair's fields of SPair-71k (category, trg_kps, trg_bndbox) and prd_kps, the
    predicted points [x, y] in pixels of the original target image, in the order of trg_kps.
    """
    _score("spair", "pairs", format, answers=answers)


@app.command(
    "pope",
    epilog=epilog(
        "kvtool score pope --answers random.jsonl popular.jsonl",
        "kvtool score pope --answers answers.jsonl --labels questions.jsonl",
    ),
)
def pope(
    answers: Annotated[
        list[Path] | None,
        typer.Option(
            "--answers", metavar="FILE...", help="One file or more of JSON lines or JSON lists."
        ),
    ] = None,
    further: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE", help="Further files.")
    ] = None,
    labels: Annotated[
        list[Path] | None,
        typer.Option(
            "--labels",
            metavar="FILE",
            help="Labels in a file of their own, one for each file of answers.",
        ),
    ] = None,
    format: FormatOption = "auto",
) -> None:
    """accuracy, precision, recall, f1 and yes_ratio of each file, pooled, and as the mean over
    files (macro_f1 ...).

    A record holds answer (free text, read as the official script does) and label (yes or no). With
    --labels, the official pair of files: answers without labels, and POPE's own file of questions.
    - is standard input.
    """
    files = [*(answers or []), *(further or [])]
    if not files:
        raise UsageError("--answers: expected one file or more, found none")
    _score("pope", "files", format, answers=files, **({"labels": labels} if labels else {}))


@app.command(
    "mme",
    epilog=epilog(
        "kvtool score mme --answers answers",
        "kvtool score mme --answers answers --format csv > mme.csv",
    ),
)
def mme(
    answers: Annotated[
        Path, typer.Option("--answers", metavar="DIR", help="Folder that holds <subset>.txt.")
    ],
    format: FormatOption = "auto",
) -> None:
    """acc, acc_plus and score of each subset, their means over the subsets, and the total.

    A line of a file: image TAB question TAB ground truth TAB answer; two lines an image, one after
    the other.
    """
    _score("mme", "subsets", format, answers=answers)


def _score(name: str, unit: str, format: Format, **options: Any) -> None:
    import kvtool
    from kvtool.cli.output import emit_result

    with console.progress(f"score {name}", None, unit=unit) as advance:
        result = kvtool.score(name, progress=advance, **options)
    for line in result.skipped:
        console.log.warning("%s", line)
    emit_result(result, format)
    if result.n_skipped:
        raise PartialError(
            f"score {name}: {result.n_skipped} {unit} or their truth were left out, {result.n} "
            "scored"
        )
