"""`kvtool.extract`: an extraction with its settings as parameters, the library's side of `kvtool
extract`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike, fspath
from typing import TYPE_CHECKING, Protocol

from kvtool.bounds import checked
from kvtool.datasets.base import Dataset
from kvtool.datasets.given import check_travels, given_dataset
from kvtool.engine import local
from kvtool.engine.events import Tell, told
from kvtool.engine.outcome import Report
from kvtool.engine.plan import BatchSize, Changed, CodecChoice, Job
from kvtool.errors import UsageError
from kvtool.layers import LayerChoice
from kvtool.models.sizes import check_input
from kvtool.progress import Progress, called
from kvtool.text_templates import DEFAULT
from kvtool.types import InputSize, KeyPosition, Kind, Precision, RunView

if TYPE_CHECKING:
    from PIL.Image import Image


class HuggingFaceDataset(Protocol):
    """A datasets.Dataset: rows, and columns that can be cast; the package itself is not needed."""

    def cast_column(self, column: str, feature: object) -> object:
        """Return the data set with a column read as another type, as `datasets` does."""
        ...

    def __len__(self) -> int: ...


@checked
def extract(
    store: str | PathLike[str],
    *,
    model: str,
    dataset: str | Sequence[str | PathLike[str] | Image] | Dataset | HuggingFaceDataset,
    prefix: str = "none",
    kinds: Sequence[Kind] | None = None,
    layers: LayerChoice | None = None,
    limit: int | None = None,
    view: RunView = "base",
    keys: KeyPosition = "post-rope",
    dtype: Precision = "bfloat16",
    batch_size: BatchSize = "auto",
    attention: str = "sdpa",
    codec: CodecChoice = "lz4",
    run: str | None = None,
    changed: Changed = "refuse",
    strict: bool = False,
    reuse: bool = True,
    text_template: str = DEFAULT,
    image_size: str | int = "",
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    system: str = "",
    check: bool = True,
    by_layer: bool = False,
    devices: Sequence[str] = ("auto",),
    engine: str = "local",
    cpus_per_worker: int = 1,
    wait_s: float = 0.0,
    min_free_vram: int | None = None,
    tell: Tell | None = None,
    begin: Callable[[Report], None] | None = None,
    progress: Progress | bool | None = None,
) -> Report:
    """Run a model over a data set once and store what its decoder holds of every image.

    The same call again goes on where it was interrupted; where nothing is left to do, no model is
    loaded.

    Args:
        store: the folder of the store, which is made where there is none.
        model: a hub id (optionally id@revision), a folder, "adapter:DIR", or one that is shipped:
            "demo", "demo-tower", "demo@1" to "demo@3", "demo-adapter", "smollm2-adapter".
        dataset: NAME[:PATH][@SPLIT], e.g. "spair71k:/data/SPair-71k@test" or "folder:pictures"; or
            a list of paths, a list of PIL images, a Hugging Face datasets.Dataset with a column of
            images, or any object of the protocol kvtool.datasets.base.Dataset. The same pictures
            again go on with their run; pictures in memory cannot be found again by what needs to
            look at them.
        prefix: the text before every image: none, correct, incorrect, random, text:... or file:CSV.
        kinds: of key, value, projected and vision; None stores all that the model has. Beside them
            saliency: the attention of the tower's class token, or of its pooling head, to each
            patch, in the last layer that is run.
        layers: of the decoder, or of the tower for an encoder alone; None stores all, or the
        tower's last.
        limit: only the first images of the split; a later call with a larger limit goes on from
        there.
        view: "full" keeps the tokens of high-resolution tiles as well; "video" gives the frames of
            each of the data set's videos to the model in one context, and is what `video:PATH` has.
        keys: keys before or after the rotary embedding.
        dtype: of the weights, and as stored.
        batch_size: images a batch, of equal length; "auto" is 16, fewer of pictures that would
            take a quarter of the device's memory, and runs more of them together where that is
            faster, fits, and changes no stored bit.
        attention: the attention of transformers, e.g. sdpa or eager.
        codec: "none" is larger and faster; "auto" is measured on the first pictures of a new run,
            by what limits there: the model, the encoder or the disk. A run goes on with its own.
        run: the run's name; None makes one of the settings.
        changed: where pictures of the run are not what they were: refuse, or replace what is stored
        of them.
        strict: stop at the first image that cannot be read.
        reuse: take features before the decoder from a run of another prefix, where the store has
        one.
        text_template: what stands around class names and expressions when the model reads them:
            "a photo of a {}.", several joined by | (their vectors are averaged), or "alone:{}"
            for texts outside the chat template. A run can hold several.
        image_size: the size that pictures are brought to before an encoder, or Qwen's tower, sees
            them: 384 (a square), "480x832" (height x width) or "short:480" (the shorter side, at
            the picture's own aspect ratio, in whole patches). The checkpoint's own by default.
        min_pixels, max_pixels: bounds of a picture's area in Qwen's tower; the latter in SigLIP
            2's (NaFlex), too.
        system: the text of a system message, which stands before everything else in every prompt of
            the run; by default what the chat template writes by itself.
        check: prove on the first picture of a new run that the model's map from pixels to tokens is
            true, and that image keys and values are those of the whole prompt; of an encoder alone,
            the map.
        by_layer: leave the decoder's layers on disk and bring many pictures through each in turn,
            with two layers' weights on the device at a time: for models larger than it. What is
            stored is the same.
        devices: names of torch devices, a process each; "auto" is cuda:0 where there is one, else
            cpu. Names joined by a plus hold one model: "cuda:0+cuda:1", "cuda:0+cpu",
            "cpu+disk:DIR".
        engine: "local", or "ray" for tasks of a Ray cluster, where "auto" is every GPU, else every
            `cpus_per_worker` CPUs.
        cpus_per_worker: the CPUs that Ray sets aside for a worker.
        wait_s: seconds to wait for parts that other processes hold once all others are done.
        min_free_vram: bytes of a GPU that must be free.
        tell: called with every event of the work. begin: called once before the weights are loaded.
        progress: called with (images done, note), and once with the number of those to be done;
            True shows a bar.

    Raises KvtoolError; what was committed by then stays, and the same call goes on from there.
    """
    if not isinstance(model, str):
        raise UsageError(
            f"model: expected a text, found {type(model).__name__}; extract one model a call"
        )
    # A data set in memory has no path for the job: it is handed over beside it.
    opened, spec = (None, dataset) if isinstance(dataset, str) else _given(dataset, devices, engine)
    job = Job(
        store=fspath(store),
        model=model,
        dataset=spec,
        prefix=prefix,
        kinds=None if kinds is None else tuple(kinds),
        layers=layers if layers is None or isinstance(layers, str) else tuple(layers),
        limit=limit,
        view=view,
        keys=keys,
        dtype=dtype,
        batch_size=batch_size,
        attention=attention,
        codec=codec,
        run=run,
        changed=changed,
        strict=strict,
        reuse=reuse,
        text_template=text_template,
        size=check_input(InputSize(str(image_size), min_pixels or 0, max_pixels or 0)),
        system=system,
        check=check,
        by_layer=by_layer,
    )
    return local.extract(
        job,
        dataset=opened,
        devices=devices,
        engine=engine,
        cpus_per_worker=cpus_per_worker,
        wait_s=wait_s,
        min_free_vram=min_free_vram,
        tell=told(called(progress), tell),
        begin=_begun(called(progress), begin),
    )


def _begun(progress: Progress, begin: Callable[[Report], None] | None) -> Callable[[Report], None]:
    """Return what is called before the work begins: it says how much there is to do."""

    def start(report: Report) -> None:
        """Tell the number of images to be done."""
        progress(0, "", report.n_images - report.n_before)
        if begin is not None:
            begin(report)

    return start


def _given(value: object, devices: Sequence[str], engine: str) -> tuple[Dataset, str]:
    """The data set of a value that is no text, and its name. Raises UsageError."""
    dataset = given_dataset(value)
    if len(devices) > 1 or engine != "local":
        check_travels(dataset)
    return dataset, dataset.name
