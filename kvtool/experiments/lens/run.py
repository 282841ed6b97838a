"""`kvtool lens`: what a decoder's final norm and head read at image tokens, after each layer.

See docs/sae.md, "Lens and word directions". No sparse autoencoder is needed, and nothing is chosen
on pictures: words are words of the vocabulary, directions are made of sentences.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from kvtool.bounds import checked
from kvtool.datasets.identity import dataset_of
from kvtool.errors import UsageError
from kvtool.experiments.lens.sources import concepts_of, sentences_of
from kvtool.experiments.lens.study import LensReader, LensStudy, some_layers
from kvtool.features.residual import check_streams, stream_layers
from kvtool.layers import LayerChoice, resolve_layers
from kvtool.pictures.files import check_images, checked_png, pictures_of, write_png
from kvtool.progress import Progress, called
from kvtool.result import Result, versions
from kvtool.store import Run
from kvtool.store.provenance import describe_run
from kvtool.store.select import Target, select_run

TOKENS = 64


@checked
def lens(
    target: Target,
    *,
    image: str | None = None,
    out: str | Path | None = None,
    layers: LayerChoice | None = None,
    tokens: int | Literal["all"] = TOKENS,
    text: str | Path | None = None,
    limit: int | None = None,
    model: str | None = None,
    data: str | Path | None = None,
    device: str = "auto",
    seed: int = 0,
    fresh: bool = False,
    wait_s: float = 0.0,
    progress: Progress | bool | None = None,
) -> Result:
    """Measure whether words find the patches that they name in the residual stream of each layer.

    Rows of measure "lens": the logit that the final norm and the head give the first piece of a
    category's word, and its rank in the vocabulary. Rows of measure "directions": the stream
    along the word's direction, which is its mean state in sentences less that of the other words.
    `auroc` says how well either tells patches that show the category from those that do not, the
    mean over categories with an interval over images; 0.5 is chance. `permuted` is what the words
    of other categories get, `text` what the measure gets on the words in sentences.

    With `image`, the likeliest words at each of its patches instead, a row a patch and layer, and
    as a picture in `out`; the data set needs no annotations then.

    Streams are computed from what the run holds, or read where it holds `hidden`. The measure is
    kept in the store and returned again when the same is asked for, unless `fresh`. Raises
    UsageError for a run without what is needed and a data set without concepts, KvtoolError where
    no patch shows one, ModelError where the run's model is not there, BusyError where another
    process measures the same.

    Args:
        target: the run, or the store that holds it.
        image: the id of an image.
        out: the file of its picture, whose name ends in .png; an existing one is replaced.
        layers: the decoder's layers, by default all; of a picture four from all over.
        tokens: patches of an image that are measured, from all over it; "all" for the base grid.
        text: a file of sentences, one a line, that directions are made of, by default the captions
            of the data set.
        limit: the number of images, by default all.
        model: the place of the run's model, if its name does not say it.
        data: the place of the run's data set, if it moved.
        device: the device of the model: auto, cpu, cuda or cuda:N.
        seed: the random seed of patches, intervals and permutations.
        fresh: whether everything is measured again.
        wait_s: how long to wait for another process that measures the same.
        progress: called with 1 and a note for each image, and once with their number; True shows a
            bar.
    """
    run = select_run(target)
    reader = LensReader(run, _layers(run, layers, is_picture=image is not None), model, device)
    # A picture shows words and measures nothing: its options are others.
    if image is not None:
        if text is not None or limit is not None:
            raise UsageError(
                "lens: --text and --limit choose what is measured, and with --image one image is "
                "read and nothing is measured; leave them out, or leave --image out"
            )
        return _read_image(reader, image, out, data)
    if out is not None:
        raise UsageError("lens: -o is the file of a picture: name its image with --image")
    if tokens != "all" and tokens < 1:
        raise UsageError(f"lens: tokens: expected all or a number of 1 or more, found {tokens}")
    dataset = dataset_of(run, data)
    concepts_of(dataset)
    study = LensStudy(reader, dataset, sentences_of(dataset, text), tokens, limit, seed)
    return study.kept(fresh, wait_s, called(progress))


def _layers(run: Run, layers: LayerChoice | None, *, is_picture: bool) -> tuple[int, ...]:
    """Return the numbers of the layers to read. Raises UsageError where the run lacks them."""
    check_streams(run, ())  # an encoder alone has no layers to choose among
    numbers = resolve_layers(layers, run.config.model.geometry.layers)
    if numbers is None:
        numbers = some_layers(stream_layers(run)) if is_picture else stream_layers(run)
    check_streams(run, numbers)
    return numbers


def _read_image(
    reader: LensReader, image: str, out: str | Path | None, data: str | Path | None
) -> Result:
    """Return the likeliest words at each patch of an image, and draw them into a file."""
    run = reader.run
    check_images(run, [image], "lens")
    # Whether the file can be written is known before the model runs.
    path = None if out is None else checked_png(out, "lens: -o")
    readings = list(reader.words([image], reader.layers))
    notes: tuple[str, ...] = ()
    if path is not None:
        from kvtool.pictures.words import draw_words

        pictures, notes = pictures_of(run, [image], data)
        title = f"likeliest words at image {image} · run {run.name}"
        items = [reading.item() for reading in readings]
        sheet = draw_words(pictures.get(image), readings[0].sample, items, title)
        write_png(sheet, path, "lens: -o")
    settings = {
        "image": image,
        "layers": list(reader.layers),
        "picture": None if path is None else str(path),
        "notes": list(notes),
    }
    return Result(
        command="lens",
        task="words",
        metric="probability",
        n=len(readings[0].words),
        rows=[row for reading in readings for row in reading.rows()],
        config=describe_run(run, [image]) | settings,
        versions=versions(),
    )
