"""The mean key and value of a run's image tokens, stored once they are there.

Keys are those that text looks at, after the rotary embedding; stored before it, they are turned
first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kvtool import schema
from kvtool.asking.caches import cache_kinds, spoiled_arrays
from kvtool.result import result_key
from kvtool.store import Run, open_store
from kvtool.store.provenance import ALGORITHMS
from kvtool.store.shares import Share, chunk_name

if TYPE_CHECKING:
    from kvtool.models.base import LanguageModel
    from kvtool.models.intervention import Means

Vectors = dict[str, list[list[float]]]
"""Of each layer, by its number as a text, a vector for each KV head."""
DIGITS = 7
"""Those of a stored number: what float32 has."""


@dataclass(frozen=True)
class RunMeans:
    """The stored record of a run: means of all image tokens of its pictures.

    Attributes:
        keys: By layer, (kv_head, dim).
        values: The same of values.
    """

    keys: Vectors
    values: Vectors

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> RunMeans:
        """Read a stored record. Raises CorruptError."""
        return schema.read(cls, record, "means")

    def of(self, method: str) -> Means:
        """Return what mean-key, or mean-value, puts in the place of a token's."""
        import torch

        vectors = self.keys if method == "mean-key" else self.values
        return {int(layer): torch.tensor(numbers) for layer, numbers in vectors.items()}


def run_means(run: Run, model: LanguageModel, share: Share) -> RunMeans:
    """Return the means of a run, stored or computed and stored. Raises BusyError where another
    process computes them.
    """
    store = open_store(run.store)
    version = ALGORITHMS["intervention"]
    # The means depend on the run's pictures and on the model's precision.
    settings = [version, run.config.hash, run.images_hash(), str(model.info.dtype)]
    key = result_key(["means", *settings])

    def stored() -> RunMeans | None:
        """Return what is stored."""
        return store.kept(key, RunMeans.from_json)

    def make() -> RunMeans:
        """Compute the means and store them."""
        means = compute_means(run, model)
        record = {"kind": "means", "run": run.name, "keys": means.keys, "values": means.values}
        store.keep(key, record)
        return means

    return share.once(run, chunk_name("means", run.name, key), stored, make)


def compute_means(run: Run, model: LanguageModel) -> RunMeans:
    """Compute the means over all image tokens of all pictures whose caches are finite."""
    import torch

    layers = run.config.model.geometry.cached_layers
    kinds = cache_kinds(run.config.model.geometry)
    # Sums over pictures suffice: the caches of all pictures would not fit in memory.
    sums: dict[tuple[str, int], torch.Tensor] = {}
    n_tokens = 0
    for sample in run.samples:
        arrays = run.read_image(sample.id, kinds, raw=True)
        if spoiled_arrays(arrays):
            continue
        cache = model.restore([sample], [arrays], run.config.keys)
        image = slice(sample.image_start, sample.image_start + sample.n_tokens)
        for name in ("keys", "values"):
            for layer in layers:
                # In double precision: half precision would lose what many tokens add to a sum.
                states = getattr(cache.layers[layer], name)[0, :, image]
                total = states.double().sum(dim=1).cpu()
                sums[name, layer] = sums.get((name, layer), torch.zeros_like(total)) + total
        n_tokens += sample.n_tokens
    # Every token weighs the same, so that large pictures count more than small ones.
    vectors: dict[str, Vectors] = {"keys": {}, "values": {}}
    for (name, layer), total in sums.items():
        means = (total / n_tokens).tolist()
        vectors[name][str(layer)] = [
            [float(f"{number:.{DIGITS}g}") for number in mean] for mean in means
        ]
    return RunMeans(**vectors)
