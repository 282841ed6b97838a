"""Questions answered from the store: which run holds the images, and every image's answers, kept as they are made.

The answers about an image lie in one result of the store, so that whatever was asked before is never asked again:
an interrupted benchmark goes on at the next image, and a further condition runs alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvtool.analysis.heads import Heads
from kvtool.datasets import Spec
from kvtool.datasets.base import DatasetBase, ImageRef
from kvtool.engine.plan import Job
from kvtool.errors import KvtoolError, ModelError, UsageError
from kvtool.reports.results import result_key
from kvtool.store import Run, RunConfig, Store, hash_json
from kvtool.types import Kind, Sample

if TYPE_CHECKING:
    from kvtool.models.base import LanguageModel

ATTENTION = "sdpa"
"""What a knockout leaves as it is runs on this backend, and the unblocked condition with it."""
Progress = Callable[..., None]
"""Called with (images or questions answered, note), and once or more with how many there will be as a third."""
Texts = Mapping[str, Sequence[str]]
"""Questions by image id."""
CACHE: tuple[Kind, ...] = ("key", "value")
WAIT_S = 600.0
"""How long to wait for images that another process is extracting."""


def silent(_n: int, _note: str = "", _total: int | None = None) -> None:
    """Shows nothing."""


def find_base(store: Store, name: str | None, model: str | None, dataset: DatasetBase | None) -> Run | None:
    """The run whose settings and model a knockout takes: the named one, else the only one left when leaving out those
    that an earlier knockout extracted for its questions ("<run>+pope") and those of other models; where there still
    are several, the only one over `dataset`, if given. None for a store without runs. Raises UsageError."""
    if name is not None:
        return store.run(name)
    first = store.first_runs()
    runs = store.readable_runs(lambda run: run.name in first)
    if model is not None:
        runs = [run for run in runs if _is_named(run.config, model)] or runs
    if len(runs) > 1 and dataset is not None:
        runs = [run for run in runs if run.config.dataset == dataset.name] or runs
    if len(runs) == 1 or not first:
        return runs[0] if runs else None
    return store.run(None)


def _is_named(config: RunConfig, model: str) -> bool:
    return model == config.model.name or str(Path(model).expanduser().resolve()) == config.model.name


def serves(run: Run, base: Run, dataset: DatasetBase, refs: Sequence[ImageRef]) -> bool:
    """Whether a run's images can stand for a benchmark's: whole caches, made with the base run's settings, of the same
    pictures. POPE asks about COCO's, so that a run over the very folder serves it too."""
    ours = run.config
    if _settings(ours) != _settings(base.config):
        return False
    if not set(CACHE) <= set(ours.kinds) or len(ours.layers) != ours.model.geometry.layers:
        return False
    if ours.dataset == dataset.name:
        return True
    folders = {ref.path.resolve().parent for ref in refs if ref.path is not None}
    here = Path(ours.dataset_path or "").resolve() / ours.split
    return ours.dataset == "coco" and dataset.name == "pope" and folders == {here}


def _settings(config: RunConfig) -> tuple[str, ...]:
    """What a cache's numbers depend on, the image aside; keys are rotated when they are read, if not before."""
    model = config.model
    return model.name, model.revision, model.dtype, config.prefix, config.view


def holding_run(
    store: Store,
    base: Run | None,
    model: str | None,
    dataset: DatasetBase,
    refs: Sequence[ImageRef],
    device: str,
    progress: Progress,
) -> tuple[Run, dict[str, str]]:
    """The run that holds these pictures, those extracted that no run holds; and id -> why of those that failed."""
    runs = [] if base is None else [base, *store.readable_runs(lambda run: run.name != base.name)]
    able = [run for run in runs if base is not None and serves(run, base, dataset, refs)]
    there = {ref.id for ref in refs if ref.path is None or ref.path.is_file()}
    gone = {ref.id: f"{ref.path}: no such image" for ref in refs if ref.id not in there}
    for run in able:
        if there <= set(run.ids):
            return run, {image: why for image, why in gone.items() if image not in run.ids}
    own = next((run for run in able if run.config.dataset == dataset.name), None)
    job = _job(store, own, base, model, dataset, len(refs))
    report = _extract(job, device, progress)
    run = store.run(report.run)
    failed = {failure.id: failure.reason for failure in report.failed.values()}
    if lacking := there - set(run.ids) - failed.keys():
        raise KvtoolError(f"run {run.name}: {len(lacking)} images are held by another process: try again later")
    return run, gone | failed


def _job(store: Store, own: Run | None, base: Run | None, model: str | None, dataset: DatasetBase, limit: int) -> Job:
    """What to extract: the rest of the benchmark's own run, or a new one with the base run's settings."""
    spec = str(Spec(dataset.name, str(dataset.root), dataset.split))
    if base is None:
        if model is None:
            raise UsageError(f"store {store.path}: expected a run, found none; extract one, or give --model")
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
        run=f"{base.name}+{dataset.name}" if own is None else own.name,
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


@dataclass
class Answerer:
    """Answers questions about a run's images, from the store where they were asked before.

    model: where the run's model is now, if its name does not say. Its weights are loaded for the first question that
    is new. fresh: ask everything again. beside: an answerer over another run of the same model, whose weights serve
    here too.
    """

    store: Store
    run: Run
    model: str | None
    device: str
    max_new_tokens: int
    fresh: bool = False
    beside: Answerer | None = None

    @cached_property
    def loaded(self) -> LanguageModel:
        """The run's model. Raises ModelError where it is not the one that the run was extracted with."""
        if self.beside is not None:
            return self.beside.loaded
        from kvtool.engine.local import resolve_devices
        from kvtool.models import load_model
        from kvtool.models.base import LanguageModel

        info = self.run.config.model
        (device,) = resolve_devices((self.device,), min_free_vram=None)
        found = load_model(self.model or info.name, device=device, dtype=info.dtype, attention=ATTENTION)
        if found.info.revision != info.revision:
            raise ModelError(
                f"model {found.info.name}: expected revision {info.revision}, with which run {self.run.name} was "
                f"extracted, found {found.info.revision}; give the folder that holds it with --model, or extract anew"
            )
        if not isinstance(found, LanguageModel):
            raise UsageError(f"run {self.run.name}: expected a language model to ask, found the encoder {info.name}")
        return found

    @cached_property
    def key(self) -> str:
        """Of all that an answer depends on but image, text and heads."""
        return result_key(["answers", self.run.config.hash, ATTENTION, self.max_new_tokens])

    @cached_property
    def samples(self) -> dict[str, Sample]:
        return {sample.id: sample for sample in self.run.samples}

    def ask(self, texts: Texts, sets: Sequence[Heads], progress: Progress) -> dict[Heads, dict[str, dict[str, str]]]:
        """Answers by heads blocked, image and text. Each image's are kept before the next image's turn."""
        found: dict[Heads, dict[str, dict[str, str]]] = {heads: {} for heads in sets}
        for image, asked in texts.items():
            for heads, answers in self.ask_image(image, tuple(dict.fromkeys(asked)), sets).items():
                found[heads][image] = answers
            progress(1, image)
        return found

    def ask_image(self, image: str, texts: Sequence[str], sets: Sequence[Heads]) -> dict[Heads, dict[str, str]]:
        key = hash_json([self.key, image])
        kept = None if self.fresh else self.store.load_result(key)
        known: dict[str, dict[str, str]] = {} if kept is None else kept["answers"]
        todo = {h: [text for text in texts if text not in known.get(heads_key(h), {})] for h in sets}
        if any(todo.values()):
            for heads, answers in self._generate(image, todo).items():
                known.setdefault(heads_key(heads), {}).update(answers)
            about = {"run": self.run.name, "image": image, "max_new_tokens": self.max_new_tokens}
            self.store.keep(key, {"kind": "answers", **about, "answers": known})
        return {heads: {text: known[heads_key(heads)][text] for text in texts} for heads in sets}

    def _generate(self, image: str, todo: Mapping[Heads, Sequence[str]]) -> dict[Heads, dict[str, str]]:
        """The image's cache, read once, asked under each set of blocked heads."""
        from kvtool.models.knockout import knocked_out

        model, arrays = self.loaded, self.run.read_image(image, CACHE, raw=True)
        sample = self.samples[image]
        cache = model.restore([sample], [arrays], self.run.config.keys)
        found = {}
        for heads, texts in todo.items():
            with knocked_out(model, [sample], heads):
                answers = model.ask(cache, sample, [model.question(text) for text in texts], self.max_new_tokens)
            found[heads] = dict(zip(texts, answers, strict=True))
        return found


def heads_key(heads: Heads) -> str:
    """The name of a set of blocked heads among an image's answers."""
    return hash_json(sorted(heads))
