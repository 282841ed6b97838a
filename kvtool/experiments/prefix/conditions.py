"""The runs that `kvtool prefix` compares: one without prefix, and one of each condition over the
same images.

A condition's run has the settings of the run without prefix and keeps the decoder's kinds alone:
what comes before the decoder does not see the prefix.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kvtool.datasets import spec_of
from kvtool.datasets.base import DatasetBase
from kvtool.digests import digest_texts
from kvtool.engine.plan import Job
from kvtool.engine.prefixes import FILE, TEXT, condition_name, prefix_texts
from kvtool.errors import BusyError, ModelError, UsageError
from kvtool.progress import Progress
from kvtool.store import Run, RunConfig, Store
from kvtool.store.shares import by_crew
from kvtool.tasks.blocks import DECODER
from kvtool.types import Kind

NONE = "none"
ORDER = (NONE, "correct", "random", "incorrect")
"""Conditions of a data set as the paper's table 4 has them."""
WAIT_S = 600.0
"""How long to wait for images that another process is extracting."""


@dataclass(frozen=True)
class PrefixCondition:
    """A condition by the name that `extract --prefix` takes.

    `texts` holds the text before each image of the data set, by id; None where there is none for
    it.
    """

    name: str
    texts: dict[str, str | None]

    @property
    def recorded(self) -> str:
        """What a run records as its prefix."""
        return condition_name(self.name)

    @property
    def word(self) -> str:
        """The name of the condition's run: correct, or text-0123abcd for one of the user's."""
        if self.name in ORDER:
            return self.name
        texts = (f"{image}={text}" for image, text in self.texts.items())
        return f"{self.recorded[:4]}-{digest_texts(texts)[:8]}"


def condition_names(
    dataset: DatasetBase, conditions: Sequence[str] | None, user_prefixes: Sequence[str]
) -> list[str]:
    """Return none, the conditions, by default all that the data set offers, and the user's.

    Raises UsageError.
    """
    # A data set offers the conditions that it has texts for.
    offered = [name for name in ORDER if name in dataset.conditions]
    for name in conditions or ():
        if name not in offered:
            raise UsageError(
                f"conditions: expected some of {', '.join(offered)}, which {dataset.name} offers, "
                f"found {name!r}"
            )
    for name in user_prefixes:
        if not name.startswith((TEXT, FILE)):
            raise UsageError(
                f'prefix: expected text:"..." or file:CSV, found {name!r}; data sets\' own: '
                "--conditions"
            )
    # The run without prefix is always there, and first: others are compared with it.
    names = [name for name in offered if conditions is None or name in (NONE, *conditions)]
    if len(names) + len(user_prefixes) < 2:
        raise UsageError(
            f"conditions: expected another one than none; {dataset.name} offers: "
            f"{', '.join(offered)}; "
            'or give --prefix text:"..."'
        )
    return [*names, *dict.fromkeys(user_prefixes)]


def make_condition(name: str, dataset: DatasetBase) -> PrefixCondition:
    """Return a condition with its texts. Raises DatasetError where all of them lack."""
    refs = dataset.images()
    texts = prefix_texts(name, dataset, refs)
    return PrefixCondition(name, {ref.id: text for ref, text in zip(refs, texts, strict=True)})


def model_revision(model: str, run: Run) -> str:
    """Return the revision of a model, without its weights. Raises ModelError."""
    from kvtool.models import load_model

    return load_model(model, dtype=run.config.model.dtype, weights=False).info.revision


def extract_base(
    store: Store, model: str | None, spec: str | None, device: str, progress: Progress
) -> Run:
    """Extract the run of `kvtool extract` with default options; find_base saw that both names are
    there."""
    assert model is not None
    assert spec is not None
    name, _ = _extract(Job(store.address, model, spec), NONE, device, progress)
    return store.run(name)


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
    """Return the run of a condition, and the reasons by id of images that it cannot hold.

    What it lacks of the base run's images is extracted. Raises ModelError where the model is
    another one, BusyError where other processes hold images.
    """
    if condition.name == NONE:
        return base, {}
    # An image without a text cannot be a part of the condition.
    reasons = {
        image: f"image {image}: expected a text for --prefix {condition.name}, found none for it"
        for image in base.ids
        if condition.texts[image] is None
    }
    config = replace(base.config, prefix=condition.recorded)
    serving = [run for run in store.readable_runs() if _serves(run, base, config, condition, kinds)]
    # Of several runs the one that lacks the fewest images.
    run = max(serving, key=lambda candidate: len(set(candidate.ids) & set(base.ids)), default=None)
    # What lacks is extracted with the base run's model, or nothing could be compared.
    if run is None or set(base.ids) - set(run.ids) - reasons.keys():
        check_model(base, model)
        job = _job(store, base, run, condition, dataset, model)
        name, failed = _extract(job, condition.name, device, progress)
        run = store.run(name)
        reasons = reasons | failed
    if busy := set(base.ids) - set(run.ids) - reasons.keys():
        raise BusyError(
            f"run {run.name}: {len(busy)} images are held by another process: try again later"
        )
    return run, {image: reason for image, reason in reasons.items() if image not in run.ids}


def _serves(
    run: Run, base: Run, config: RunConfig, condition: PrefixCondition, kinds: Sequence[Kind]
) -> bool:
    """Tell whether a run can stand for a condition.

    It does where it holds these kinds of all layers of `config` with its settings, whatever else it
    holds, of the base run's pictures under the condition's texts.
    """
    ours = run.config
    # A run that stores more kinds or layers, or stores them otherwise, holds the same numbers.
    aside = {name: getattr(config, name) for name in ("kinds", "layers", "vision_layers", "codec")}
    if replace(ours, **aside).hash != config.hash:
        return False
    if not set(kinds) <= set(ours.kinds) or not set(config.layers) <= set(ours.layers):
        return False
    # A picture that changed, or another text before it, makes other vectors.
    digests = {picture.id: picture.digest for picture in base.pictures}
    return all(
        digests.get(picture.id, picture.digest) == picture.digest
        and condition.texts.get(picture.id, picture.prefix) == picture.prefix
        for picture in run.pictures
    )


def check_model(base: Run, model: str | None) -> None:
    """Check that the base run's model is there, and the same one as `model`. Raises ModelError."""
    info = base.config.model
    try:
        revision = model_revision(model or info.name, base)
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
    """Describe what to extract: the rest of a condition's run, or a new one named after the base
    run."""
    config = base.config if run is None else run.config
    kinds = config.kinds
    if run is None:
        # What comes before the decoder is the same without prefix: it is not stored again.
        kinds = tuple(kind for kind in config.kinds if kind in DECODER)
    # Images stand in the data set's order: the limit reaches to the last one of the base run.
    stored = set(base.ids)
    positions = [position for position, ref in enumerate(dataset.images()) if ref.id in stored]
    return Job(
        store=store.address,
        model=model or config.model.name,
        dataset=spec_of(dataset),
        prefix=condition.name,
        kinds=kinds,
        layers=config.layers,
        limit=max(positions) + 1,
        view=config.view,
        keys=config.keys,
        dtype=config.model.dtype,
        attention=config.model.attention,
        codec=config.codec,
        size=config.input_size,
        system=config.system,
        run=None if run is None else run.name,
        stem=f"{base.name}+{condition.word}",
    )


def _extract(
    job: Job, condition: str, device: str, progress: Progress
) -> tuple[str, dict[str, str]]:
    """Extract, and return the run's name, and the reasons by id of images that failed."""
    from kvtool.engine.events import Event
    from kvtool.engine.local import extract
    from kvtool.engine.outcome import Report

    n_done = 0

    def begin(report: Report) -> None:
        """Log what is about to be extracted."""
        todo = report.n_images - report.n_before
        logging.getLogger("kvtool").info(
            "prefix %s: extracting %d images into run %s", condition, todo, report.run
        )

    def tell(event: Event) -> None:
        """Count the images that are done."""
        nonlocal n_done
        n_done += event.n if event.what == "done" else 0
        progress(0, f"{condition}: extracted {n_done}")

    by_crew()  # what others extract is there when this process looks
    report = extract(job, devices=(device,), wait_s=WAIT_S, tell=tell, begin=begin)
    return report.run, {failure.id: failure.reason for failure in report.failed.values()}
