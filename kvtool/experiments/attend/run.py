"""`kvtool attend`: where texts look on the pictures of a run, from its stored caches.

See docs/attend.md. A text's tokens run after the stored keys and values of a picture; the softmax
of each layer is taken over all that they see, so that the numbers are those of eager attention over
the whole prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kvtool.asking.attending import Attender, attended_layers
from kvtool.asking.query_tokens import LAST, QuerySource
from kvtool.bounds import checked
from kvtool.engine.crew import Devices, crewed
from kvtool.errors import UsageError
from kvtool.experiments.attend.sources import DESCRIBE, AttendRequest, AttendTexts, asking_of
from kvtool.layers import LayerChoice
from kvtool.outputs import check_folder
from kvtool.progress import Progress, called
from kvtool.reporting.numbers import ranges
from kvtool.result import Result, Row, result_key
from kvtool.store import Run, hash_json, open_store
from kvtool.store.provenance import ALGORITHMS, describe_run
from kvtool.store.select import Target, select_store
from kvtool.store.shares import chunk_name, sharing

if TYPE_CHECKING:
    from kvtool.experiments.attend.drawing import MapFiles
    from kvtool.experiments.attend.sinks import SinkStudy
    from kvtool.experiments.attend.study import AttendStudy

HEADS = 3
MAX_NEW_TOKENS = 16


@checked
@crewed("save", "out", "each_token")
def attend(
    target: Target,
    *,
    question: str | None = None,
    image: str | Sequence[str] | None = None,
    benchmark: str | None = None,
    expressions: bool = False,
    sinks: bool = False,
    from_: str = LAST,
    layers: LayerChoice | None = None,
    localization: int = HEADS,
    limit: int | None = None,
    save: str | Path | None = None,
    out: str | Path | None = None,
    each_token: bool = False,
    max_new_tokens: int = MAX_NEW_TOKENS,
    run: str | None = None,
    model: str | None = None,
    data: str | Path | None = None,
    device: str = "auto",
    devices: Devices = None,  # noqa: ARG001  the crew's
    engine: str = "local",  # noqa: ARG001  the crew's
    cpus_per_worker: int = 1,  # noqa: ARG001  the crew's
    seed: int = 0,
    fresh: bool = False,
    wait_s: float = 0.0,
    progress: Progress | bool | None = None,
) -> Result:
    """Measure where texts look on pictures, in every query head of every layer.

    A row for each head: `mass`, its attention on the picture's tokens; `mass_text`, on all others;
    `entropy` of its distribution over the picture's tokens, divided by that of an even one;
    `sink_share`, the share of the mass on the strongest 1 % of tokens. Where the object that a text
    is about is known, `auroc` and `pointing` say how well the map finds it, beside what objects of
    other pictures get. Intervals are by picture. The localization heads are chosen on one half of
    the pictures, without masks, and scored on the other.

    With `sinks`, a row for each key instead: which tokens draw its attention whatever the text,
    and what their keys and values are like.

    No picture is run again: the run's keys and values serve, and the model runs the texts. The
    result is kept in the store and returned again when the same is asked for, unless `fresh`.
    Raises UsageError for a run without keys and values of all layers, an empty question, unknown
    ids and layers, ModelError where the run's model is not there; where other processes still hold
    pictures, UnfinishedError if this process measured some, else BusyError.

    Args:
        target: the run, or the store that holds it.
        question: a text about each picture; {concept} in it stands for each thing that the picture
            shows, where the data set has masks.
        image: ids of the pictures, or one id, by default all.
        benchmark: pope:PATH, mme:PATH[@all] or any data set with questions, whose questions are
            asked; pictures that no run holds are extracted first.
        expressions: whether the sentences of RefCOCO are asked, about their objects.
        sinks: whether the tokens that draw attention are measured; without a source "Describe this
            image." is asked.
        from_: whose attention: "last", the last token before the answer; "question", the tokens of
            the user's words; "answer", those of the model's answer; or a word of the question. The
            mean over several tokens is taken.
        layers: the decoder's layers, by default all.
        localization: the number of localization heads.
        limit: the number of pictures, by default all.
        save: a folder for <id>.npz with `attention` (layer, q_head, image_token) and the grid.
        out: a folder for pictures, <id>.png, of the map of the localization heads.
        each_token: whether each token that looks has a picture of its own.
        max_new_tokens: the most tokens of an answer.
        run: the name of a run, where the target is a store.
        model: the place of the run's model, if its name does not say it.
        data: the place of the run's data set, if it moved.
        device: the device of the model: auto, cpu, cuda or cuda:N.
        devices: in place of one device several, a worker each, who share the pictures; files are
            written by the caller.
        engine: "local" for processes of this machine, "ray" for tasks of a Ray cluster.
        cpus_per_worker: the CPUs that Ray sets aside for a worker.
        seed: the random seed of halves, intervals and permutations.
        fresh: whether everything is measured again; else an interrupted call goes on.
        wait_s: how long to wait for pictures that other processes measure, once all others are
            done.
        progress: called with 1 and a note for each picture, and once with their number; True shows
            a bar.
    """
    opened, run_name = select_store(target, run)
    base = opened.run(run_name)
    source = QuerySource(from_)
    numbers = attended_layers(base, layers)
    if sinks:
        check_alike(base, numbers)
    # Sinks are to be there whatever the text: an open request serves.
    if sinks and question is None and benchmark is None and not expressions:
        question = DESCRIBE
    images = [image] if isinstance(image, str) else image
    request = AttendRequest(question, images, benchmark, expressions, limit, data)
    request.check()
    files = _files(save, out, each_token, sinks)
    advance = called(progress)
    asking = asking_of(base, request, model, device, advance)
    attender = Attender(asking.run, source, numbers, model, device, max_new_tokens)
    config = {
        **_config(asking, request, attender, seed),
        **({"sinks": True} if sinks else {"localization_heads": localization}),
    }
    study = _study(asking, attender, config, localization, sinks, seed)
    result = _shared(study, result_key(config), fresh, wait_s, advance)
    # Files are written each time, also for a result that was kept.
    if files is not None:
        notes = files.write(attender, asking.inquiries, _heads_of(result), data)
        config = result.config | {"notes": [*result.config["notes"], *notes]}
        result = replace(result, config=config)
    return result


def check_alike(run: Run, layers: Sequence[int]) -> None:
    """Raise UsageError where the keys of some layers have other numbers of heads or dimensions."""
    geometry = run.config.model.geometry
    if len({geometry.shape(layer) for layer in layers}) > 1:
        layers_of_first = [n for n in layers if geometry.shape(n) == geometry.shape(layers[0])]
        raise UsageError(
            "attend: --sinks: expected layers whose keys have one shape, found several; choose "
            f"some with --layers, such as {ranges(layers_of_first)}"
        )


def _config(asking: AttendTexts, request: AttendRequest, attender: Attender, seed: int) -> Row:
    """Return all that the numbers depend on."""
    inquiries = asking.inquiries
    texts = [[entry.id, entry.image, entry.text, entry.target] for entry in inquiries]
    return {
        "command": "attend",
        "algorithm": ALGORITHMS["attend"],
        **describe_run(asking.run, {inquiry.image for inquiry in inquiries}),
        **request.settings(),
        "from": attender.source.name,
        "layers": list(attender.layers),
        "max_new_tokens": attender.max_new_tokens if attender.source.is_answer else None,
        "questions": len(inquiries),
        "questions_hash": hash_json(texts),
        "truth_hash": None if asking.truth is None else asking.truth.truth_digest(),
        "seed": seed,
    }


def _study(
    asking: AttendTexts,
    attender: Attender,
    config: Row,
    localization: int,
    sinks: bool,
    seed: int,
) -> AttendStudy | SinkStudy:
    """Return what measures what is asked."""
    if sinks:
        from kvtool.experiments.attend.sinks import SinkStudy

        return SinkStudy(attender, asking.inquiries, config, seed, asking.skipped, asking.notes)
    from kvtool.experiments.attend.segmentation import AttentionMasks
    from kvtool.experiments.attend.study import AttendStudy

    has_masks = asking.truth is not None
    masks = AttentionMasks(asking.run, asking.sentences, attender.device, seed)
    return AttendStudy(
        attender,
        asking.inquiries,
        config,
        localization,
        seed,
        asking.skipped,
        asking.notes,
        masks if has_masks else None,
    )


def _shared(
    study: AttendStudy | SinkStudy, key: str, fresh: bool, wait_s: float, progress: Progress
) -> Result:
    """Return the result of a study that is kept under a key, or measure its pictures together with
    the other processes that do, and keep it. Raises BusyError; see sharing.
    """
    from kvtool.experiments.attend.pictures import PictureShares

    attender = study.attender
    store = open_store(attender.run.store)

    def stored() -> Result | None:
        """Return what is kept, unless all is to be measured anew."""
        return None if fresh else store.kept(key, Result.from_json)

    if (result := stored()) is not None:
        return result
    with sharing(wait_s) as share:
        shares = PictureShares(attender, store, key, share, fresh, progress)
        # Pictures are measured one by one and kept, so that an interrupted call goes on.
        study.look(shares)

        def make() -> Result:
            """Keep the whole result in place of what was kept of the pictures."""
            new_result = study.result()
            if store.keep(key, new_result.to_json()):
                shares.drop()
            return new_result

        return share.result(attender.run, chunk_name("attend", "", key), stored, make)


def _files(
    save: str | Path | None, out: str | Path | None, each_token: bool, sinks: bool
) -> MapFiles | None:
    """Return the files to write. Raises UsageError where they cannot be written."""
    if each_token and out is None:
        raise UsageError("attend: --each-token draws pictures: name their folder with --out")
    if sinks and (save is not None or out is not None):
        raise UsageError(
            "attend: --save and --out are of maps, and --sinks measures keys; leave it"
        )
    for folder, flag in ((save, "--save"), (out, "--out")):
        if folder is not None:
            check_folder(folder, f"attend: {flag}")
    if save is None and out is None:
        return None
    from kvtool.experiments.attend.drawing import MapFiles

    return MapFiles(save, out, each_token)


def _heads_of(result: Result) -> list[tuple[int, int]]:
    """Return the (layer, q_head) whose maps are drawn: the localization heads."""
    heads = result.config.get("localization", {}).get("heads", [])
    return [(head["layer"], head["q_head"]) for head in heads]
