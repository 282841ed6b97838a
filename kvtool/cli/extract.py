"""kvtool extract: run a model over a data set once and store what it holds of the images."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kvtool.cli import console
from kvtool.cli.completion import complete_data_set
from kvtool.cli.options import (
    DevicesOption,
    Format,
    FormatOption,
    LayersOption,
    StoreArgument,
    StoredKindsOption,
    bounded,
    need_store,
    parse_bytes,
    parse_kinds,
    parse_layers,
)
from kvtool.errors import BusyError, KvtoolError, PartialError
from kvtool.progress import Advance, silent
from kvtool.types import InputSize, KeyPosition, Precision, View

if TYPE_CHECKING:
    from kvtool.engine.outcome import Report, SizeEstimate
    from kvtool.engine.plan import Job

SHOWN_FAILURES = 20


EXAMPLES = (
    "kvtool extract study.kv --model demo --dataset scenes@spair71k --limit 20",
    "kvtool extract study.kv --model llava-hf/llava-onevision-qwen2-7b-ov-hf \\\n"
    "    --dataset spair71k:SPair-71k --devices cuda:0,cuda:1",
    "kvtool extract study.kv --model demo --dataset folder:pictures --dry-run",
)


def extract(
    store: StoreArgument = None,
    model: Annotated[
        str, typer.Option("--model", help="The model: a hub id, a folder, or demo.")
    ] = ...,  # type: ignore[assignment]
    dataset: Annotated[
        str,
        typer.Option("--dataset", metavar="NAME[:PATH][@SPLIT]", autocompletion=complete_data_set),
    ] = ...,  # type: ignore[assignment]
    prefix: Annotated[
        str,
        typer.Option(
            "--prefix",
            help="Text before every image: none, correct, incorrect, random, text:..., or "
            "file:CSV with the columns image and text.",
        ),
    ] = "none",
    kinds: StoredKindsOption = None,
    layers: LayersOption = None,
    limit: Annotated[int | None, bounded("limit", help="Only the first N images.")] = None,
    view: Annotated[
        View, typer.Option("--view", help="full keeps the high-resolution tiles.")
    ] = "base",
    keys: Annotated[
        KeyPosition, typer.Option("--keys", help="Before or after the rotary embedding.")
    ] = "post-rope",
    dtype: Annotated[
        Precision, typer.Option("--dtype", help="Of the weights, and as stored.")
    ] = "bfloat16",
    batch_size: Annotated[int, bounded("batch_size", help="Images a batch, of equal length.")] = 16,
    devices: DevicesOption = "auto",
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option("--engine", help="ray: workers as tasks of a Ray cluster."),
    ] = "local",
    attention: Annotated[
        str, typer.Option("--attention", help="transformers' backend: sdpa, eager, ...")
    ] = "sdpa",
    codec: Annotated[
        Literal["lz4", "none"], typer.Option("--codec", help="none: larger and faster.")
    ] = "lz4",
    run: Annotated[
        str | None, typer.Option("--run", help="Name of the run; default: made from its settings.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the sizes, write nothing.")
    ] = False,
    wait: Annotated[
        float, bounded("wait_s", "--wait", help="Seconds to wait for parts others hold.")
    ] = 0.0,
    min_free_vram: Annotated[
        str | None,
        typer.Option("--min-free-vram", metavar="SIZE", help="E.g. 20GB; less is exit 3."),
    ] = None,
    changed: Annotated[
        Literal["refuse", "replace"],
        typer.Option(
            "--changed",
            help="What to do where pictures of the run are not what they were: see below.",
        ),
    ] = "refuse",
    no_reuse: Annotated[
        bool,
        typer.Option(
            "--no-reuse",
            help="Run the tower even where a run of another prefix holds its output, e.g. when "
            "that run is damaged.",
        ),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first image that cannot be read.")
    ] = False,
    image_size: Annotated[
        str,
        typer.Option(
            "--image-size",
            metavar="SIZE",
            help="The size that pictures are brought to before an encoder or Qwen's tower: 384 "
            "(a square), 480x832 (height x width), or short:480 (the shorter side; the picture's "
            "own aspect ratio). Default: the checkpoint's.",
        ),
    ] = "",
    min_pixels: Annotated[
        int | None, bounded("min_pixels", help="Smallest area of a picture in Qwen's tower.")
    ] = None,
    max_pixels: Annotated[
        int | None, bounded("max_pixels", help="Largest area of a picture in Qwen's tower.")
    ] = None,
    text_template: Annotated[
        str,
        typer.Option(
            "--text-template",
            help="What stands around class names and expressions, {} in their place; several "
            "joined by | are averaged; after alone: they stand outside the chat template.",
        ),
    ] = "{}",
    format: FormatOption = "auto",
) -> None:
    """Run a model over a data set once and store keys, values, projected and vision features of its
    images.

    The same command again goes on where it was interrupted, or says that there is nothing to do.
    Several at once share the work. A run belongs to its pictures: a data set that only moved or
    grew continues its run; where pictures changed or vanished, --changed refuse names them and
    touches nothing, --changed replace extracts the changed ones again and leaves the vanished out,
    and --run NAME makes another run.
    """
    from kvtool.engine.plan import Job
    from kvtool.models.sizes import check_input

    job = Job(
        store=str(need_store(store)),
        model=model,
        dataset=dataset,
        prefix=prefix,
        kinds=parse_kinds(kinds),
        layers=parse_layers(layers),
        limit=limit,
        view=view,
        keys=keys,
        dtype=dtype,
        batch_size=batch_size,
        attention=attention,
        codec=codec,
        run=run,
        strict=strict,
        changed=changed,
        reuse=not no_reuse,
        text_template=text_template,
        size=check_input(InputSize(image_size, min_pixels or 0, max_pixels or 0)),
    )
    vram = parse_bytes(min_free_vram, "--min-free-vram")
    if dry_run:
        from kvtool.engine.local import estimate

        show_estimate(estimate(job), format)
        return
    finish(run_job(job, tuple(devices.split(",")), engine, wait, vram), format)


def run_job(
    job: Job, devices: tuple[str, ...], engine: str, wait_s: float, min_free_vram: int | None
) -> Report:
    """Extract with a progress bar that starts where the run stands."""
    from contextlib import ExitStack

    from kvtool.engine import local
    from kvtool.engine.pipeline import told

    with ExitStack() as stack:
        advance: Advance = silent

        def begin(report: Report) -> None:
            nonlocal advance
            if report.n_before < report.n_images:
                say_source(report.source)
                bar = console.progress(
                    f"extract {report.run}", report.n_images, done=report.n_before
                )
                advance = stack.enter_context(bar)

        def proceed(n: int, note: str) -> None:
            advance(n, note)  # whichever it is by then

        return local.extract(
            job,
            devices=devices,
            engine=engine,
            wait_s=wait_s,
            min_free_vram=min_free_vram,
            tell=told(proceed),
            begin=begin,
        )


def say_source(source: str | None) -> None:
    """Say which run features are taken from, if any."""
    if source:
        console.log.info(
            "projected features of the images that run %s holds come from there (--no-reuse)",
            source,
        )


def log_failures(report: Report) -> None:
    """Log why pictures failed: the first ones as errors, the others for -v and --log-file."""
    for number, failure in enumerate(report.failed.values()):
        level = logging.ERROR if number < SHOWN_FAILURES else logging.DEBUG
        console.log.log(level, "failed: %s", failure.reason)
    if len(report.failed) > SHOWN_FAILURES:
        console.log.error(
            "... and %d more: -v and --log-file list all", len(report.failed) - SHOWN_FAILURES
        )


def finish(report: Report, format: Format) -> None:
    """Say what was done.

    Raises PartialError (exit 4) for pictures that failed or could not be listed, KvtoolError (1)
    where all failed, BusyError (3) where others hold all that was left; a worker that did its share
    is done, whatever others still hold.
    """
    from kvtool.cli.output import emit_rows
    from kvtool.store.nonfinite import blocks

    log_failures(report)
    row = {
        "run": report.run,
        "images": report.n_images,
        "already_stored": report.n_before,
        "extracted": report.n_done,
        "stored_by_others": report.n_by_others,
        "failed": len(report.failed),
        "left_out": len(report.left_out),
        "held_by_others": report.n_missing,
        "holders": report.busy if report.n_missing else [],
        "bytes_written": report.n_bytes,
        "reused": report.n_reused,
        "nonfinite": len(blocks(report.nonfinite)),
        "seconds": round(report.seconds, 1),
    }
    console.log.debug("%s", ", ".join(f"{name} {value}" for name, value in row.items()))
    emit_rows([row], format)
    if report.n_before == report.n_images:
        console.log.info("nothing to do: run %s holds all %d images", report.run, report.n_images)
    if report.n_missing > 0:
        owner = report.busy[0] if report.busy else "another process"
        note = f"run {report.run}: {report.n_missing} images are still held by others: {owner}"
        if not report.n_done and not report.failed:
            raise BusyError(note)
        console.log.info("%s", note)
    if len(report.failed) == report.n_images:
        raise KvtoolError(
            f"run {report.run}: none of {report.n_images} images could be extracted, and it holds "
            "none; mend the files and run the same command again"
        )
    if lost := len(report.failed) + len(report.left_out):
        raise PartialError(
            f"run {report.run}: {lost} of {report.n_images + len(report.left_out)} images failed "
            "and were left out; "
            "mend the files and run the same command again"
        )


def show_estimate(estimate: SizeEstimate, format: Format) -> None:
    """Print what an extraction would take."""
    from rich.filesize import decimal

    from kvtool.cli.output import emit_rows

    emit_rows([asdict(estimate)], format)
    if estimate.n_todo:
        say_source(estimate.source)
    console.log.info(
        "%d of %d images to extract: %s before compression, about %s on disk; %s free",
        estimate.n_todo,
        estimate.n_images,
        decimal(estimate.todo_bytes),
        decimal(estimate.expected_bytes),
        decimal(estimate.free_bytes),
    )
