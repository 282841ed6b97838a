"""The runs that `kvtool prefix` compares: one without prefix, and one of each condition over the
same images.

A condition's run has the settings of the run without prefix and keeps the decoder's kinds alone:
what comes before the decoder does not see the prefix.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kvtool.datasets import DATASETS, open_dataset, spec_of
from kvtool.datasets.base import DatasetBase
from kvtool.datasets.identity import count, dataset_of, listed
from kvtool.digests import digest_texts
from kvtool.engine.plan import Job
from kvtool.engine.prefixes import FILE, TEXT, condition_name, prefix_texts
from kvtool.errors import BusyError, DatasetError, ModelError, UsageError
from kvtool.store import Run, RunConfig, Store
from kvtool.tasks.blocks import DECODER
from kvtool.tasks.evaluation import check_served, tasks_of
from kvtool.types import Kind

NONE = "none"
ORDER = (NONE, "correct", "random", "incorrect")
"""Conditions of a data set as the paper's table 4 has them."""
WAIT_S = 600.0
"""How long to wait for images that another process is extracting."""
Progress = Callable[..., None]
"""Called with (blocks scored, note)."""


@dataclass(frozen=True)
class PrefixCondition:
    """A condition by the name that `extract --prefix` takes, and the text before each image of the
    data set, by id; None where there is none for it."""

    name: str
    texts: dict[str, str | None]

    @property
    def recorded(self) -> str:
        """What a run records as its prefix."""
        return condition_name(self.name)

    @property
    def word(self) -> str:
        """How the condition's run is called: correct, or text-0123abcd of the user's own."""
        if self.name in ORDER:
            return self.name
        texts = (f"{image}={text}" for image, text in self.texts.items())
        return f"{self.recorded[:4]}-{digest_texts(texts)[:8]}"


def condition_names(
    dataset: DatasetBase, chosen: Sequence[str] | None, own: Sequence[str]
) -> list[str]:
    """none, then those chosen (default: all) of what the data set offers, then the user's own.
    Raises UsageError."""
    offered = [name for name in ORDER if name in dataset.about.conditions]
    for name in chosen or ():
        if name not in offered:
            raise UsageError(
                f"conditions: expected some of {', '.join(offered)}, which {dataset.name} offers, "
                f"found {name!r}"
            )
    for name in own:
        if not name.startswith((TEXT, FILE)):
            raise UsageError(
                f'prefix: expected text:"..." or file:CSV, found {name!r}; data sets\' own: --conditions'
            )
    named = [name for name in offered if chosen is None or name in (NONE, *chosen)]
    if len(named) + len(own) < 2:
        raise UsageError(
            f"conditions: expected another one than none; {dataset.name} offers: "
            f"{', '.join(offered)}; "
            'or give --prefix text:"..."'
        )
    return [*named, *dict.fromkeys(own)]


def make_condition(name: str, dataset: DatasetBase) -> PrefixCondition:
    """A condition with its texts. Raises DatasetError where all of them lack."""
    refs = dataset.images()
    texts = prefix_texts(name, dataset, refs)
    return PrefixCondition(name, {ref.id: text for ref, text in zip(refs, texts, strict=True)})


def find_base(
    store: Store,
    task: str,
    kinds: Sequence[Kind],
    name: str | None,
    model: str | None,
    spec: str | None,
) -> Run | None:
    """The run without prefix: the named one, or the only one that holds the kinds and whose data
    set (`spec`, if given) serves the task, of that model (`model`: its name, or where it is now).
    None where there is none and model and spec say what to extract. Raises UsageError."""
    if name is not None:
        run = store.run(name)
        check_served(run, task)
        if run.config.prefix != NONE:
            raise UsageError(
                f"run {name}: expected the run without prefix, found {run.config.prefix!r}"
            )
        return run
    every = store.readable_runs()
    runs = [run for run in every if _is_base(run, task, kinds)]
    if spec is not None:
        wanted = open_dataset(spec)
        runs = [
            run
            for run in runs
            if (run.config.dataset, run.config.split) == (wanted.name, wanted.split)
        ]
    if model is not None and runs:
        revision = _revision(model, runs[0])
        runs = [run for run in runs if run.config.model.revision == revision]
    if len(runs) == 1 or (not runs and model is not None and spec is not None):
        return runs[0] if runs else None
    if runs:
        raise UsageError(
            f"store {store.path}: expected one run without prefix for {task} or a name (--run), "
            f"found runs: {', '.join(run.name for run in runs)}"
        )
    able = [each for each in DATASETS.names() if task in DATASETS.load(each).about.tasks]
    raise UsageError(
        f"store {store.path}: expected a run without prefix that holds {', '.join(kinds)} over "
        f"{' or '.join(able)}{f' ({spec})' if spec else ''}{f' by {model}' if model else ''}, "
        f"found runs: {', '.join(run.name for run in every) or 'none'}; give --model and --dataset "
        f"{able[0]}:PATH to extract it"
    )


def _is_base(run: Run, task: str, kinds: Sequence[Kind]) -> bool:
    return (
        run.config.prefix == NONE and set(kinds) <= set(run.config.kinds) and task in tasks_of(run)
    )


def _revision(model: str, run: Run) -> str:
    from kvtool.models import load_model

    return load_model(model, dtype=run.config.model.dtype, weights=False).info.revision


def extract_base(
    store: Store, model: str | None, spec: str | None, device: str, progress: Progress
) -> Run:
    """The run of `kvtool extract` with nothing else said; find_base saw that both are given."""
    assert model is not None
    assert spec is not None
    name, _ = _extract(Job(str(store.path), model, spec), NONE, device, progress)
    return store.run(name)


def open_data(
    base: Run | None, task: str, data: str | Path | None, spec: str | None
) -> DatasetBase:
    """The data set of the run without prefix, or where there is none, the one to extract. Raises
    DatasetError where it is no longer the one that the run was extracted from, UsageError where it
    cannot serve the task."""
    if base is None:
        assert spec is not None
        opened: DatasetBase = open_dataset(spec)
        if task not in opened.tasks:
            served = ", ".join(opened.tasks) or "none"
            raise UsageError(
                f"{spec}: expected a data set that serves {task}, found one that serves {served}"
            )
        return opened
    opened = dataset_of(base, data)
    there = {ref.id for ref in opened.images()}
    if gone := [image for image in base.ids if image not in there]:
        raise DatasetError(
            f"{opened.name} {opened.root}: expected the images that run {base.name} holds, found "
            f"{count(gone, 'image')} gone ({listed(gone)}); give their folder with --data, or "
            "extract anew"
        )
    return opened


def condition_run(
    store: Store,
    base: Run,
    condition: PrefixCondition,
    dataset: DatasetBase,
    kinds: Sequence[Kind],
    model: str | None,
    device: str,
    progress: Progress,
) -> tuple[Run, dict[str, str]]:
    """The run of a condition, with what it lacks of the base run's images extracted; and id -> why
    of images that it cannot hold. Raises ModelError where the model is another one, BusyError where
    others hold images."""
    if condition.name == NONE:
        return base, {}
    why = {
        image: f"image {image}: expected a text for --prefix {condition.name}, found none for it"
        for image in base.ids
        if condition.texts[image] is None
    }
    wanted = replace(base.config, prefix=condition.recorded)
    able = [run for run in store.readable_runs() if _serves(run, base, wanted, condition, kinds)]
    run = max(able, key=lambda each: len(set(each.ids) & set(base.ids)), default=None)
    if run is None or set(base.ids) - set(run.ids) - why.keys():
        check_model(base, model)
        job = _job(store, base, run, condition, dataset, model)
        name, failed = _extract(job, condition.name, device, progress)
        run = store.run(name)
        why = why | failed
    if held := set(base.ids) - set(run.ids) - why.keys():
        raise BusyError(
            f"run {run.name}: {len(held)} images are held by another process: try again later"
        )
    return run, {image: reason for image, reason in why.items() if image not in run.ids}


def _serves(
    run: Run, base: Run, wanted: RunConfig, condition: PrefixCondition, kinds: Sequence[Kind]
) -> bool:
    """Whether a run holds these kinds of all wanted layers, made with the wanted settings, whatever
    else it holds, of the base run's pictures under the condition's texts."""
    ours = run.config
    aside = {name: getattr(wanted, name) for name in ("kinds", "layers", "vision_layers", "codec")}
    if replace(ours, **aside).hash != wanted.hash:
        return False
    if not set(kinds) <= set(ours.kinds) or not set(wanted.layers) <= set(ours.layers):
        return False
    digests = {picture.id: picture.digest for picture in base.pictures}
    return all(
        digests.get(picture.id, picture.digest) == picture.digest
        and condition.texts.get(picture.id, picture.prefix) == picture.prefix
        for picture in run.pictures
    )


def check_model(base: Run, model: str | None) -> None:
    """Raises ModelError where the base run's model is not there any more, or `model` is another
    one."""
    info = base.config.model
    try:
        revision = _revision(model or info.name, base)
    except ModelError as error:
        hint = "" if model else f"; if run {base.name}'s model moved, give its place with --model"
        raise ModelError(f"{error}{hint}") from None
    if revision != info.revision:
        raise ModelError(
            f"model {model or info.name}: expected revision {info.revision}, with which run "
            f"{base.name} was extracted, "
            f"found {revision}; give the folder that holds it with --model, or extract anew"
        )


def _job(
    store: Store,
    base: Run,
    run: Run | None,
    condition: PrefixCondition,
    dataset: DatasetBase,
    model: str | None,
) -> Job:
    """The rest of a condition's run, or a new one named after the base run."""
    config = base.config if run is None else run.config
    stored = set(base.ids)
    positions = [position for position, ref in enumerate(dataset.images()) if ref.id in stored]
    return Job(
        store=str(store.path),
        model=model or config.model.name,
        dataset=spec_of(dataset),
        prefix=condition.name,
        kinds=tuple(kind for kind in config.kinds if kind in DECODER)
        if run is None
        else config.kinds,
        layers=config.layers,
        limit=max(positions) + 1,
        view=config.view,
        keys=config.keys,
        dtype=config.model.dtype,
        attention=config.model.attention,
        codec=config.codec,
        run=None if run is None else run.name,
        stem=f"{base.name}+{condition.word}",
    )


def _extract(
    job: Job, condition: str, device: str, progress: Progress
) -> tuple[str, dict[str, str]]:
    """Name of the extracted run, and id -> why of images that failed."""
    from kvtool.engine.local import extract
    from kvtool.engine.outcome import Report
    from kvtool.engine.pipeline import Event

    n_done = 0

    def begin(report: Report) -> None:
        todo = report.n_images - report.n_before
        logging.getLogger("kvtool").info(
            "prefix %s: extracting %d images into run %s", condition, todo, report.run
        )

    def tell(event: Event) -> None:
        nonlocal n_done
        n_done += event.n if event.what == "done" else 0
        progress(0, f"{condition}: extracted {n_done}")

    report = extract(job, devices=(device,), wait_s=WAIT_S, tell=tell, begin=begin)
    return report.run, {failure.id: failure.reason for failure in report.failed.values()}
