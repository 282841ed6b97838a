"""kvtool: extract the image keys and values of multimodal language models once, analyse them from disk.

    import kvtool
    kvtool.extract("spair.kv", model="demo", dataset="spair71k:/data/SPair-71k@test")
    run = kvtool.open("spair.kv").run()
    values, images = run.read("value", layer=14, kv_head=2)
    table = kvtool.probe("spair.kv", "semantic-correspondence")

Importing kvtool imports neither torch nor transformers.
"""

from __future__ import annotations

from os import PathLike

TYPE_CHECKING = False  # typing's, without its import: Ctrl-C comes before much is imported
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from kvtool.engine.local import Report
    from kvtool.experiments.knockout.run import HeadSource
    from kvtool.experiments.show.run import Shown
    from kvtool.reporting.collect import Page
    from kvtool.result import Result
    from kvtool.store import Run, Store

__version__ = "0.1.0"
__all__ = [
    "__version__",
    "correlate",
    "extract",
    "knockout",
    "open",
    "paired",
    "prefix",
    "probe",
    "report",
    "score",
    "search",
    "show",
    "variance",
]


def open(path: str | PathLike[str]) -> Store:
    """An existing store. Raises StoreError where there is none."""
    from kvtool.bounds import check_options
    from kvtool.store import open_store

    check_options({"store": path})
    return open_store(path)


def extract(store: str | PathLike[str], *, model: str, dataset: str, **options: Any) -> Report:
    """`kvtool extract`: the fields of engine.plan.Job and the keywords of engine.local.extract, by the same names."""
    from dataclasses import fields
    from os import fspath

    from kvtool.bounds import check_options
    from kvtool.engine import local
    from kvtool.engine.plan import Job
    from kvtool.errors import UsageError

    for name, value in (("model", model), ("dataset", dataset)):
        if not isinstance(value, str):
            raise UsageError(f"{name}: expected a text, found {type(value).__name__}; extract one {name} a call")
    check_options({"store": store, "model": model, "dataset": dataset, **options})
    of_job = {field.name for field in fields(Job)} & options.keys()
    job = Job(fspath(store), model, dataset, **{name: options.pop(name) for name in of_job})
    return local.extract(job, **options)


def paired(store: Store | Run | str | PathLike[str], task: str, **options: Any) -> Result:
    """`kvtool paired`: the same questions put to the model and to its image values; see kvtool.experiments.paired.run."""
    from kvtool.bounds import check_options
    from kvtool.experiments.paired.run import paired as run_paired

    check_options({"task": task, **options})
    return run_paired(open(store) if isinstance(store, str | PathLike) else store, task, **options)


def probe(store: Store | Run | str | PathLike[str], task: str, **options: Any) -> Result:
    """`kvtool probe`: score every (kind, layer, kv_head) of a run on a task; see kvtool.tasks.probe."""
    from kvtool.bounds import check_options
    from kvtool.tasks import probe as run_probe

    check_options({"task": task, **options})
    return run_probe(open(store) if isinstance(store, str | PathLike) else store, task, **options)


def knockout(store: Store | Run | str | PathLike[str], benchmark: str, heads: HeadSource, **options: Any) -> Result:
    """`kvtool knockout`: a benchmark's questions with text blocked from the image in chosen heads; see
    kvtool.experiments.knockout.run. A store that is not there yet is made where `model` says what to extract it with."""
    from kvtool.bounds import check_options
    from kvtool.experiments.knockout.run import knockout as run_knockout
    from kvtool.store import open_store

    check_options({"benchmark": benchmark, **options})
    if isinstance(store, str | PathLike):
        store = open_store(store, create=options.get("model") is not None)
    return run_knockout(store, benchmark, heads, **options)


def prefix(store: Store | Run | str | PathLike[str], task: str, **options: Any) -> Result:
    """`kvtool prefix`: a task's scores under texts put before the image, with differences to none; see
    kvtool.experiments.prefix.run. A store that is not there yet is made where `model` and `dataset` say what to extract."""
    from kvtool.bounds import check_options
    from kvtool.experiments.prefix.run import prefix as run_prefix
    from kvtool.store import open_store

    check_options({"task": task, **options})
    if isinstance(store, str | PathLike):
        store = open_store(store, create=None not in (options.get("model"), options.get("dataset")))
    return run_prefix(store, task, **options)


def correlate(stores: Store | str | PathLike[str] | Sequence[Store | str | PathLike[str]], **options: Any) -> Result:
    """`kvtool correlate`: over models, segmentation by their best values against accuracy on perception; see
    kvtool.experiments.correlate.run."""
    from kvtool.bounds import check_options
    from kvtool.experiments.correlate.run import correlate as run_correlate
    from kvtool.store import Store

    check_options(options)
    every = [stores] if isinstance(stores, Store | str | PathLike) else stores
    return run_correlate([one if isinstance(one, Store) else open(one) for one in every], **options)


def report(
    stores: Store | str | PathLike[str] | Sequence[Store | str | PathLike[str]],
    path: str | PathLike[str],
    **options: Any,
) -> Page:
    """`kvtool report`: one self-contained HTML page about the results that stores keep; see kvtool.reporting.collect."""
    from kvtool.bounds import check_options
    from kvtool.reporting.collect import report as run_report

    check_options({"path": path, **options})
    return run_report(stores, path, **options)


def score(benchmark: str, **options: Any) -> Result:
    """`kvtool score`: any tool's predictions by the official metrics, e.g. score("pope", answers=["a.json"]); the
    benchmarks and their options are in kvtool.experiments.score."""
    from kvtool.bounds import check_options
    from kvtool.experiments.score import score as run_score

    check_options(options)
    return run_score(benchmark, **options)


def search(store: Store | Run | str | PathLike[str], image: str, at_px: tuple[float, float], **options: Any) -> Result:
    """`kvtool search`: the patches of a run nearest to the one at a pixel; see kvtool.experiments.search.run."""
    from kvtool.bounds import check_options
    from kvtool.experiments.search.run import search as run_search

    check_options({"image": image, **options})
    return run_search(open(store) if isinstance(store, str | PathLike) else store, image, at_px, **options)


def show(
    store: Store | Run | str | PathLike[str], images: str | Sequence[str], out: str | PathLike[str], **options: Any
) -> Shown:
    """`kvtool show`: one PNG of every block's principal components for some images, or of what a block predicts of
    them in a task; see kvtool.experiments.show.run."""
    from os import fspath

    from kvtool.bounds import check_options
    from kvtool.experiments.show.run import show as run_show

    check_options({"images": images, "out": out, **options})
    return run_show(open(store) if isinstance(store, str | PathLike) else store, images, fspath(out), **options)


def variance(store: Store | Run | str | PathLike[str], **options: Any) -> Result:
    """`kvtool variance`: L2 variance over images of every (layer, kv_head), and which keys are input-agnostic; see
    kvtool.experiments.variance.run."""
    from kvtool.bounds import check_options
    from kvtool.experiments.variance.run import variance as run_variance

    check_options(options)
    return run_variance(open(store) if isinstance(store, str | PathLike) else store, **options)
