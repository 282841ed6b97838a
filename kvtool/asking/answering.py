"""Questions answered from the store: which run holds the images, and every image's answers, kept as
they are made.

The answers about an image lie in one result of the store, so that whatever was asked before is
never asked again: an interrupted benchmark goes on at the next image, and a further condition runs
alone. Who asks about an image holds its claim meanwhile, so that several processes share the
images, and none writes over the answers of another.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kvtool import schema
from kvtool.asking.heads import Heads
from kvtool.datasets import spec_of
from kvtool.datasets.base import DatasetBase, ImageRef
from kvtool.datasets.identity import compare
from kvtool.engine.plan import Job
from kvtool.errors import BusyError, KvtoolError, ModelError, UsageError
from kvtool.models.hub import resolve, same_model
from kvtool.result import result_key
from kvtool.store import Run, RunConfig, Store, hash_json, same_numbers
from kvtool.store.encoding import Bits
from kvtool.store.manifest import TEXT_KINDS
from kvtool.store.nonfinite import WHAT, count_nonfinite
from kvtool.store.provenance import ALGORITHMS
from kvtool.store.shares import Share, chunk_name
from kvtool.types import Kind, Sample

if TYPE_CHECKING:
    from kvtool.models.base import LanguageModel

ATTENTION = "sdpa"
"""What a knockout leaves as it is runs on this backend, and the unblocked condition with it."""
Progress = Callable[..., None]
"""Called with (images or questions answered, note), and once or more with how many there will be as
a third."""
Texts = Mapping[str, Sequence[str]]
"""Questions by image id."""
Found = dict[Heads, dict[str, dict[str, str]]]
"""Answers by heads blocked, image and text."""
Known = dict[str, dict[str, str]]
"""Answers about an image by heads_key and text."""
CACHE: tuple[Kind, ...] = ("key", "value")
WAIT_S = 600.0
"""How long to wait for images that another process is extracting."""


def silent(_n: int, _note: str = "", _total: int | None = None) -> None:
    """Shows nothing."""


def find_base(
    store: Store, name: str | None, model: str | None, dataset: DatasetBase | None
) -> Run | None:
    """The run whose settings and model a knockout takes: the named one, else the only one left when
    leaving out those that an earlier knockout extracted for its questions ("<run>+pope") and those
    of other models; where there still are several, the only one over `dataset`, if given. None for
    a store without runs. Raises UsageError."""
    if name is not None:
        return store.run(name)
    runs = store.first_runs()
    if model is not None:
        runs = [run for run in runs if is_of_model(run.config, model)] or runs
    if len(runs) > 1 and dataset is not None:
        runs = [run for run in runs if run.config.dataset == dataset.name] or runs
    if len(runs) <= 1:
        return runs[0] if runs else None
    return store.run(None)


def is_of_model(config: RunConfig, model: str) -> bool:
    """Whether a run was extracted with a model: by its name, its folder, or the same weights at
    another place."""
    if model in (config.model.name, Path(config.model.name).name):
        return True
    try:
        return same_model(config.model, resolve(model, weights=False))
    except ModelError:
        return False


def serves(run: Run, base: Run, refs: Sequence[ImageRef]) -> bool:
    """Whether a run's images can stand for a benchmark's: whole caches, made with the base run's
    settings, of the very pictures, by what they are. POPE asks about COCO's, so that a run over
    COCO serves it too."""
    ours = run.config
    theirs = base.config
    alike = same_numbers(ours.model, theirs.model) and (ours.prefix, ours.view) == (
        theirs.prefix,
        theirs.view,
    )
    if (
        not alike
        or not set(CACHE) <= set(ours.kinds)
        or len(ours.layers) != ours.model.geometry.layers
    ):
        return False
    wanted = {ref.id for ref in refs}
    held = [picture for picture in run.pictures if picture.id in wanted]
    if not held:
        return False
    difference = compare(held, refs)
    return not difference.changed


def holding_run(
    store: Store,
    base: Run | None,
    model: str | None,
    dataset: DatasetBase,
    refs: Sequence[ImageRef],
    device: str,
    progress: Progress,
) -> tuple[Run, dict[str, str]]:
    """The run that holds these pictures, those extracted that no run holds; and id -> why of those
    that failed."""
    runs = [] if base is None else [base, *store.readable_runs(lambda run: run.name != base.name)]
    able = [run for run in runs if base is not None and serves(run, base, refs)]
    there = {ref.id for ref in refs if ref.path is None or ref.path.is_file()}
    gone = {ref.id: f"{ref.path}: no such file" for ref in refs if ref.id not in there}
    for run in able:
        if there <= set(run.ids):
            return run, {image: why for image, why in gone.items() if image not in run.ids}
    own = next(
        (run for run in able if run.config.dataset == dataset.name and _is_over(run, dataset)), None
    )
    job = _job(store, own, base, model, dataset, len(refs))
    report = _extract(job, device, progress)
    run = store.run(report.run)
    failed = {failure.id: failure.reason for failure in report.failed.values()}
    if lacking := there - set(run.ids) - failed.keys():
        raise BusyError(
            f"run {run.name}: {len(lacking)} images are held by another process: try again later"
        )
    return run, gone | failed


def _is_over(run: Run, dataset: DatasetBase) -> bool:
    """Whether a run was extracted from the place where a data set lies."""
    return dataset.root is not None and run.place == str(dataset.root.resolve())


def unanswerable(run: Run, ids: Collection[str]) -> dict[str, str]:
    """id -> why, of images from whose stored caches no model can say anything: some of their values
    are not finite.

    Only caches of parts that record such values are read.
    """
    arrays = [*CACHE, *TEXT_KINDS]
    parts = [part for part in run.parts() if any(part.nonfinite(name) for name in arrays)]
    reasons = {}
    for image in (sample.id for part in parts for sample in part.samples if sample.id in ids):
        try:
            check_finite(run, image, run.read_image(image, CACHE, raw=True))
        except KvtoolError as error:
            reasons[image] = str(error)
    return reasons


def check_finite(run: Run, image: str, arrays: Mapping[str, Bits]) -> None:
    """Raises KvtoolError where some values of an image, as stored, are not finite."""
    spoiled = [
        name for name, values in arrays.items() if count_nonfinite(np.ascontiguousarray(values))
    ]
    if spoiled:
        raise KvtoolError(
            f"run {run.name}, image {image}: expected a cache to ask from, found {WHAT} in "
            f"{', '.join(spoiled)}: extract it again, with --dtype bfloat16 where it is float16"
        )


def _job(
    store: Store,
    own: Run | None,
    base: Run | None,
    model: str | None,
    dataset: DatasetBase,
    limit: int,
) -> Job:
    """What to extract: the rest of the benchmark's own run, or a new one with the base run's
    settings."""
    spec = spec_of(dataset)
    if base is None:
        if model is None:
            raise UsageError(
                f"store {store.path}: expected a run, found none; extract one, or give --model"
            )
        return Job(str(store.path), model, spec, kinds=CACHE, limit=limit)
    config = base.config if own is None else own.config
    return Job(
        store=str(store.path),
        model=model or config.model.name,
        dataset=spec,
        prefix=config.prefix,
        kinds=CACHE if own is None else config.kinds,
        limit=limit,
        view=config.view,
        keys=config.keys,
        dtype=config.model.dtype,
        attention=config.model.attention,
        codec=config.codec,
        run=None if own is None else own.name,
        stem=f"{base.name}+{dataset.name}",
    )


def _extract(job: Job, device: str, progress: Progress) -> Any:
    from kvtool.engine.local import extract
    from kvtool.engine.pipeline import Event

    n_done = 0

    def tell(event: Event) -> None:
        nonlocal n_done
        n_done += event.n if event.what == "done" else 0
        progress(0, f"extracted {n_done}")

    return extract(job, devices=(device,), wait_s=WAIT_S, tell=tell)


@dataclass(frozen=True)
class ImageAnswers:
    """The record kept of an image: its answers by heads_key and text."""

    answers: dict[str, dict[str, str]]

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> ImageAnswers:
        """Raises CorruptError."""
        return schema.read(cls, record, "answers")


@dataclass
class Answerer:
    """Answers questions about a run's images, from the store where they were asked before.

    model: where the run's model is now, if its name does not say. Its weights are loaded for the
    first question that is new. fresh: ask everything again. beside: an answerer over another run of
    the same model, whose weights serve here too. share: what this process does of the questions,
    others being at it too. found: what was answered to it, so that it asks nothing twice, even
    where everything is to be asked again.
    """

    store: Store
    run: Run
    model: str | None
    device: str
    max_new_tokens: int
    fresh: bool = False
    beside: Answerer | None = None
    share: Share = field(default_factory=Share)
    found: Found = field(default_factory=dict)

    @cached_property
    def loaded(self) -> LanguageModel:
        """The run's model. Raises ModelError where it is not the one that the run was extracted
        with."""
        if self.beside is not None:
            return self.beside.loaded
        from kvtool.engine.worker import resolve_devices
        from kvtool.models import load_model
        from kvtool.models.base import LanguageModel

        info = self.run.config.model
        (device,) = resolve_devices((self.device,), min_free_vram=None)
        found = load_model(
            self.model or info.name, device=device, dtype=info.dtype, attention=ATTENTION
        )
        if found.info.revision != info.revision:
            raise ModelError(
                f"model {found.info.name}: expected revision {info.revision}, with which run "
                f"{self.run.name} was extracted, found {found.info.revision}; give the folder that "
                "holds it with --model, or extract anew"
            )
        if not isinstance(found, LanguageModel):
            raise UsageError(
                f"run {self.run.name}: expected a language model to ask, found the encoder "
                f"{info.name}"
            )
        return found

    @cached_property
    def key(self) -> str:
        """Of all that an answer depends on but image, text and heads."""
        return result_key(
            [ALGORITHMS["answers"], self.run.config.hash, ATTENTION, self.max_new_tokens]
        )

    @cached_property
    def samples(self) -> dict[str, Sample]:
        return {sample.id: sample for sample in self.run.samples}

    def ask(self, texts: Texts, sets: Sequence[Heads], progress: Progress) -> Found:
        """Answers by heads blocked, image and text. Each image's are kept before the next image's
        turn. Raises BusyError where other processes still hold some images; see Share.each."""
        found = {heads: self.found.setdefault(heads, {}) for heads in sets}

        def ask(image: str) -> None:
            asked = dict.fromkeys(texts[image])
            if any(asked.keys() - of_heads.get(image, {}).keys() for of_heads in found.values()):
                for heads, answers in self.ask_image(image, tuple(asked), sets).items():
                    found[heads].setdefault(image, {}).update(answers)
            progress(1, image)

        self.share.each(texts, ask, "images")
        return found

    def ask_image(
        self, image: str, texts: Sequence[str], sets: Sequence[Heads]
    ) -> dict[Heads, dict[str, str]]:
        """What ask() says of one image. Raises BusyError where another process asks about it
        now."""
        key = hash_json([self.key, image, self.samples[image].digest])

        def kept() -> Known | None:
            known = self._known(key)
            return None if any(self._lacking(known, texts, sets).values()) else known

        def make() -> Known:
            known = self._known(key)
            for heads, answers in self._generate(image, self._lacking(known, texts, sets)).items():
                known.setdefault(heads_key(heads), {}).update(answers)
            about = {"run": self.run.name, "image": image, "max_new_tokens": self.max_new_tokens}
            self.store.keep(key, {"kind": "answers", **about, "answers": known})
            return known

        known = self.share.once(self.run, chunk_name("answers", image, key), kept, make)
        return {heads: {text: known[heads_key(heads)][text] for text in texts} for heads in sets}

    def _known(self, key: str) -> Known:
        """An image's kept answers; none where they are damaged."""
        record = self.store.kept(key, ImageAnswers.from_json)
        return {} if record is None else record.answers

    def _lacking(
        self, known: Known, texts: Sequence[str], sets: Sequence[Heads]
    ) -> dict[Heads, list[str]]:
        """The questions to ask under each set of blocked heads."""
        return {
            h: [t for t in texts if self.fresh or t not in known.get(heads_key(h), {})]
            for h in sets
        }

    def _generate(
        self, image: str, todo: Mapping[Heads, Sequence[str]]
    ) -> dict[Heads, dict[str, str]]:
        """The image's cache, read once, asked under each set of blocked heads."""
        from kvtool.models.knockout import knocked_out

        arrays = self.run.read_image(image, CACHE, raw=True)
        check_finite(self.run, image, arrays)
        model = self.loaded
        sample = self.samples[image]
        cache = model.restore([sample], [arrays], self.run.config.keys)
        found = {}
        for heads, texts in todo.items():
            with knocked_out(model, [sample], heads):
                answers = model.ask(
                    cache, sample, [model.question(text) for text in texts], self.max_new_tokens
                )
            found[heads] = dict(zip(texts, answers, strict=True))
        return found


def heads_key(heads: Heads) -> str:
    """The name of a set of blocked heads among an image's answers."""
    return hash_json(sorted(heads))
