"""kvtool: extract the image keys and values of multimodal language models once, analyze them from
disk.

    import kvtool
    kvtool.extract("spair.kv", model="demo", dataset="spair71k:/data/SPair-71k@test")
    run = kvtool.open("spair.kv").run()
    values, images = run.read("value", layer=14, kv_head=2)
    table = kvtool.probe("spair.kv", "semantic-correspondence")

Importing kvtool imports neither torch nor transformers: each function is loaded when it is first
named.
"""

from __future__ import annotations

from kvtool._version import __version__

TYPE_CHECKING = False  # typing's, without its import: Ctrl-C comes before much is imported
if TYPE_CHECKING:
    from os import PathLike
    from typing import Any

    from kvtool.adapters.info import adapter_info
    from kvtool.adapters.train import adapter_train
    from kvtool.adapters.weights import adapter_import
    from kvtool.autoencoders.loading import load_sae
    from kvtool.autoencoders.text_check import sae_check
    from kvtool.autoencoders.text_training import sae_train
    from kvtool.engine.checking import check_model
    from kvtool.engine.extraction import extract
    from kvtool.experiments.attend.run import attend
    from kvtool.experiments.average.run import average
    from kvtool.experiments.compare.run import compare
    from kvtool.experiments.correlate.run import correlate
    from kvtool.experiments.intervene.run import intervene
    from kvtool.experiments.knockout.run import knockout
    from kvtool.experiments.lens.run import lens
    from kvtool.experiments.paired.run import paired
    from kvtool.experiments.prefix.run import prefix
    from kvtool.experiments.probe.run import probe
    from kvtool.experiments.sae.run import sae
    from kvtool.experiments.score.run import score
    from kvtool.experiments.search.run import search
    from kvtool.experiments.show.run import show
    from kvtool.experiments.surface.run import surface
    from kvtool.experiments.variance.run import variance
    from kvtool.reporting.collect import report
    from kvtool.store import Store
    from kvtool.viewer.serve import serve
    from kvtool.viewer.widget import widget

__all__ = [
    "__version__",
    "adapter_import",
    "adapter_info",
    "adapter_train",
    "attend",
    "average",
    "check_model",
    "compare",
    "correlate",
    "extract",
    "intervene",
    "knockout",
    "lens",
    "load_sae",
    "open",
    "paired",
    "prefix",
    "probe",
    "report",
    "sae",
    "sae_check",
    "sae_train",
    "score",
    "search",
    "serve",
    "show",
    "surface",
    "variance",
    "widget",
]

_FUNCTIONS = {
    "extract": "kvtool.engine.extraction",
    "check_model": "kvtool.engine.checking",
    "probe": "kvtool.experiments.probe.run",
    "variance": "kvtool.experiments.variance.run",
    "knockout": "kvtool.experiments.knockout.run",
    "prefix": "kvtool.experiments.prefix.run",
    "paired": "kvtool.experiments.paired.run",
    "correlate": "kvtool.experiments.correlate.run",
    "average": "kvtool.experiments.average.run",
    "compare": "kvtool.experiments.compare.run",
    "search": "kvtool.experiments.search.run",
    "show": "kvtool.experiments.show.run",
    "lens": "kvtool.experiments.lens.run",
    "attend": "kvtool.experiments.attend.run",
    "surface": "kvtool.experiments.surface.run",
    "intervene": "kvtool.experiments.intervene.run",
    "sae": "kvtool.experiments.sae.run",
    "score": "kvtool.experiments.score.run",
    "adapter_train": "kvtool.adapters.train",
    "adapter_info": "kvtool.adapters.info",
    "adapter_import": "kvtool.adapters.weights",
    "load_sae": "kvtool.autoencoders.loading",
    "sae_check": "kvtool.autoencoders.text_check",
    "sae_train": "kvtool.autoencoders.text_training",
    "report": "kvtool.reporting.collect",
    "serve": "kvtool.viewer.serve",
    "widget": "kvtool.viewer.widget",
}
"""Function -> the module that holds it under the same name."""


def open(path: str | PathLike[str]) -> Store:
    """Return an existing store. Raises StoreError where there is none."""
    from kvtool.bounds import check_options
    from kvtool.store import open_store

    check_options({"store": path})
    return open_store(path)


def __getattr__(name: str) -> Any:
    """Return the function itself, with its own signature and help; of any other experiment,
    run.py's function of its name.
    """
    from importlib.util import find_spec

    # `from kvtool import digests` asks here first: a module is no function, and plug-ins, which
    # import modules themselves, are not to be looked for on its account.
    if find_spec(f"kvtool.{name}") is not None:
        raise AttributeError(f"module 'kvtool' has no attribute {name!r}")
    if name in _FUNCTIONS:
        from importlib import import_module

        function = getattr(import_module(_FUNCTIONS[name]), name)
    else:
        function = None if name.startswith("_") else _function_of_experiment(name)
        if function is None:
            raise AttributeError(f"module 'kvtool' has no attribute {name!r}")
    globals()[name] = function
    return function


def _function_of_experiment(name: str) -> Any:
    from kvtool.registry import experiment_part

    return getattr(experiment_part(name, "run"), name, None)


def __dir__() -> list[str]:
    return sorted(__all__)
