"""kvtool extract: run a model over a data set once and store what it holds of the images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kvtool.cli import console
from kvtool.cli.extract_output import finish, say_source, show_estimate
from kvtool.cli.options import (
    AttentionOption,
    DevicesOption,
    FormatOption,
    ImagesOption,
    LayersOption,
    StoreArgument,
    StoredKindsOption,
    WaitOption,
    bounded,
    data_set_option,
    need_store,
)
from kvtool.cli.parsing import parse_batch_size, parse_bytes, parse_kinds, parse_layers
from kvtool.cli.worker_flags import CpusOption, EngineOption
from kvtool.models.device_names import worker_devices
from kvtool.progress import Advance, silent
from kvtool.types import InputSize, KeyPosition, Precision, RunView

if TYPE_CHECKING:
    from kvtool.engine.outcome import Report
    from kvtool.engine.plan import Job
    from kvtool.engine.workers import Hands

EXAMPLES = (
    "kvtool extract study.kv --model demo --dataset scenes@spair71k --limit 20",
    "kvtool extract study.kv --model llava-hf/llava-onevision-qwen2-72b-ov-hf \\\n"
    "    --dataset spair71k:SPair-71k --devices cuda:0+cuda:1,cuda:2+cuda:3",
    "kvtool extract study.kv --model Qwen/Qwen2.5-VL-3B-Instruct \\\n"
    "    --dataset video:clips@fps=2 --dry-run",
)


ExtractedOption = Annotated[str, data_set_option("The data set: see kvtool datasets.")]


def extract(
    store: StoreArgument = None,
    model: Annotated[
        str, typer.Option("--model", help="The model: a hub id, a folder, or demo.")
    ] = ...,  # type: ignore[assignment]
    dataset: ExtractedOption = ...,  # type: ignore[assignment]
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
    limit: ImagesOption = None,
    view: Annotated[
        RunView,
        typer.Option(
            "--view",
            help="full keeps the high-resolution tiles; video gives the frames of each video of "
            "the data set in one context, to Qwen's models.",
        ),
    ] = "base",
    keys: Annotated[
        KeyPosition, typer.Option("--keys", help="Before or after the rotary embedding.")
    ] = "post-rope",
    dtype: Annotated[
        Precision, typer.Option("--dtype", help="Of the weights, and as stored.")
    ] = "bfloat16",
    batch_size: Annotated[
        str,
        typer.Option(
            "--batch-size",
            metavar="N|auto",
            help="Number of images of a batch, all of equal length. auto: 16, fewer where they "
            "are large, and several batches at once where that is faster, fits the device and "
            "changes no stored bit.",
        ),
    ] = "auto",
    devices: DevicesOption = "auto",
    engine: EngineOption = "local",
    cpus_per_worker: CpusOption = 1,
    attention: AttentionOption = "sdpa",
    codec: Annotated[
        Literal["lz4", "none", "auto"],
        typer.Option(
            "--codec",
            help="none: larger and faster. auto: one of both, by what limits the first pictures of "
            "a new run (the model, the encoder or the disk); a run goes on with its own.",
        ),
    ] = "lz4",
    run: Annotated[
        str | None, typer.Option("--run", help="Name of the run; default: made from its settings.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the sizes, write nothing.")
    ] = False,
    wait: WaitOption = 0.0,
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
    no_check: Annotated[
        bool,
        typer.Option(
            "--no-check",
            help="Do not prove the model's map from pixels to tokens on the first picture.",
        ),
    ] = False,
    by_layer: Annotated[
        bool,
        typer.Option(
            "--by-layer",
            help="For a model larger than the device: leave the decoder's layers on disk and bring "
            "many pictures through each in turn. What is stored is the same.",
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
        int | None,
        bounded("max_pixels", help="Largest area of a picture in Qwen's or SigLIP 2's tower."),
    ] = None,
    text_template: Annotated[
        str,
        typer.Option(
            "--text-template",
            help="What stands around class names and expressions, {} in their place; several "
            "joined by | are averaged; after alone: they stand outside the chat template.",
        ),
    ] = "{}",
    system: Annotated[
        str,
        typer.Option(
            "--system",
            help="The text of a system message, which stands before everything else in every "
            "prompt of the run; questions asked of the run have it, too. Default: what the chat "
            "template writes by itself.",
        ),
    ] = "",
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
        batch_size=parse_batch_size(batch_size),
        attention=attention,
        codec=codec,
        run=run,
        strict=strict,
        changed=changed,
        reuse=not no_reuse,
        text_template=text_template,
        size=check_input(InputSize(image_size, min_pixels or 0, max_pixels or 0)),
        system=system,
        check=not no_check,
        by_layer=by_layer,
    )
    vram = parse_bytes(min_free_vram, "--min-free-vram")
    if dry_run:
        from kvtool.engine.local import estimate

        show_estimate(estimate(job), format)
        return
    from kvtool.engine.workers import Hands, check_engine

    hands = Hands(
        worker_devices(devices), check_engine(engine, cpus_per_worker), cpus_per_worker, vram
    )
    finish(run_job(job, hands, wait), format)


def run_job(job: Job, hands: Hands, wait_s: float) -> Report:
    """Extract with a progress bar that starts where the run stands."""
    from contextlib import ExitStack

    from kvtool.engine import local
    from kvtool.engine.events import told

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
            devices=hands.devices,
            engine=hands.engine,
            cpus_per_worker=hands.cpus_per_worker,
            wait_s=wait_s,
            min_free_vram=hands.min_free_vram,
            tell=told(proceed),
            begin=begin,
        )
