"""The index over a block's patches that `kvtool search` keeps in the store: FAISS files.

The index is flat (exact) up to PIECE_BYTES of float32 vectors: 262,144 patches of 128 dims, some
360 images of LLaVA-OneVision 7B. Above that it has about sqrt(patches) inverted lists, trained by
k-means on a seeded sample, in shards of PIECE_BYTES; a search reads PROBED lists of each. Vectors
are stored as they are, so scores are exact and only what lies in unread lists is missed; how much
that is, is measured when the index is built.

Memory while building, whatever the number of images: a sample or a shard, its bytes as they are
written (FAISS grows both by doubling), and one read (patches.READ_BYTES) with its copies: under 1
GB, measured. While searching: the probed lists of one shard, which are mapped, not read whole; or
the flat index. Each list is checked when it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kvtool.errors import UsageError
from kvtool.features.patches import READ_BYTES, Array, Best, Chunk, Numbers, Patches, sample_numbers
from kvtool.store import hash_json, indexes, open_store
from kvtool.store.files import os_errors, write_file
from kvtool.store.indexes import CheckedFile, Pieces

if TYPE_CHECKING:
    import torch

    from kvtool.features.neighbors import Metric

FORMAT = 1
PIECE_BYTES = 2**27
TRAINING_PER_LIST = 64
PROBED = 64
RECALL_QUERIES = 100
RECALL_AT = 10
SEED = 0
ID_BYTES = 8


def faiss_module() -> Any | None:
    """Return FAISS, or None where it is not installed."""
    try:
        import faiss
    except ImportError:
        return None
    return faiss


@dataclass(frozen=True)
class PatchIndex:
    """An opened index.

    `attributes` holds kind ("flat" or "ivf"), lists, probed, patches, recall_at_10, n (queries).
    """

    attributes: dict[str, Any]
    files: dict[str, CheckedFile]
    dim: int

    def search_into(self, *bests: Best) -> None:
        """Give each Best, which has one query, the patches among which its nearest are.

        Where the index is flat, a Best may have any number of queries. Raises DamagedIndexError.
        """
        for file in self.files.values():
            index = _read_faiss(file, self.attributes["kind"] == "ivf")
            for best in bests:
                if self.attributes["kind"] == "flat":
                    _add_all(index, self.dim, best)
                else:
                    best.add(*_probed_lists(index, file, self.dim, best.queries))


def open_index(patches: Patches) -> PatchIndex | None:
    """Return the stored index of these patches, or None. Raises DamagedIndexError."""
    loaded = indexes.load(patches.run, index_name(patches))
    return None if loaded is None else PatchIndex(loaded[0], loaded[1], patches.dim)


def build_index(
    patches: Patches, device: torch.device, progress: Callable[..., object]
) -> PatchIndex:
    """Build the index, store it in place of older ones of the block, and open it.

    `progress` is called with (patches added, "", total). Where another process stores the same
    index first, that one is opened. Raises StoreError where the store cannot be written.
    """
    name = index_name(patches)
    with os_errors(f"store {patches.run.address}: cannot be swept"):
        open_store(patches.run.store).sweep_tmp()
    for older in indexes.names(patches.run):
        if older != name and older.rpartition("-")[0] == name.rpartition("-")[0]:
            indexes.drop(patches.run, older)
    indexes.keep(patches.run, name, lambda folder: _write(patches, folder, device, progress))
    index = open_index(patches)
    if index is None:
        raise indexes.DamagedIndexError(
            f"run {patches.run.name}: index {name} was removed while it was built"
        )
    return index


def index_name(patches: Patches) -> str:
    """Return a name of the block, the metric, and a hash of all that the index depends on.

    A longer run has another name.
    """
    block = patches.block
    run = patches.run
    settings = [FORMAT, PIECE_BYTES, TRAINING_PER_LIST, PROBED, RECALL_QUERIES, SEED]
    depends_on = [run.config.hash, run.images_hash(), settings]
    return f"{block.kind}-{block.layer}-{block.kv_head}-{patches.metric}-{hash_json(depends_on)}"


def n_lists(patches: int, dim: int) -> int:
    """Return 1 (flat) or the number of inverted lists.

    That is the power of two nearest to sqrt(patches) that a sample can train.
    """
    if 4 * dim * patches <= PIECE_BYTES:
        return 1
    trained = max(1, PIECE_BYTES // (4 * dim * TRAINING_PER_LIST))
    return int(max(2, min(2 ** round(np.log2(patches) / 2), 2 ** int(np.log2(trained)))))


def _write(
    patches: Patches, folder: Path, device: torch.device, progress: Callable[..., object]
) -> tuple[dict[str, Any], dict[str, Pieces]]:
    """Write the files of an index, and measure it: its attributes, and the pieces of each file."""
    lists = n_lists(len(patches), patches.dim)
    # A seeded sample of patches measures what the index misses.
    numbers = sample_numbers(len(patches), RECALL_QUERIES, SEED)
    query_numbers, queries = patches.gather(numbers)
    # The exact answers come from the same pass that builds the index.
    exact = Best(queries, RECALL_AT + 1, patches.metric, device)
    empty = _empty(patches, lists)
    files: dict[str, Pieces] = {}
    for index in _shards(empty, patches, exact, progress):
        file = f"{len(files):05d}.faiss"
        files[file] = _write_faiss(folder / file, index, patches.dim, lists)
    attributes = {
        "kind": "flat" if lists == 1 else "ivf",
        "metric": patches.metric,
        "lists": lists,
        "probed": min(PROBED, lists),
        "patches": len(patches),
        "seed": SEED,
        "faiss": faiss_module().__version__,  # type: ignore[union-attr]
    }
    checked_files = {file: CheckedFile(folder / file, pieces) for file, pieces in files.items()}
    retrieved = _found_by_index(
        PatchIndex(attributes, checked_files, patches.dim), queries, patches.metric
    )
    return attributes | recall(query_numbers, exact.numbers, retrieved), files


def _shards(
    index: Any, patches: Patches, exact: Best, progress: Callable[..., object]
) -> Iterator[Any]:
    """Yield the index again and again, each time with the next PIECE_BYTES of all patches.

    `exact` sees them on the way.
    """
    capacity = max(1, PIECE_BYTES // (4 * patches.dim))
    for numbers, vectors in patches.chunks():
        exact.add(numbers, vectors)
        progress(len(numbers), "", len(patches))
        # Fill the shard, hand it out where it is full, and go on with an empty one.
        while len(numbers):
            room = capacity - index.ntotal
            index.add_with_ids(vectors[:room], numbers[:room])
            numbers = numbers[room:]
            vectors = vectors[room:]
            if index.ntotal == capacity:
                yield index
                index.reset()
    if index.ntotal:
        yield index


def _empty(patches: Patches, lists: int) -> Any:
    """Return an empty FAISS index: flat, or lists trained on a seeded sample of the patches."""
    faiss: Any = faiss_module()
    if lists == 1:
        return faiss.IndexIDMap2(_one_list(patches))
    _, sample = patches.gather(sample_numbers(len(patches), TRAINING_PER_LIST * lists, SEED + 1))
    if len(sample) < lists:
        raise UsageError(
            f"search: expected {lists} finite patches in a sample, found {len(sample)}: use --exact"
        )
    kind = faiss.METRIC_INNER_PRODUCT if patches.metric == "cosine" else faiss.METRIC_L2
    index = faiss.IndexIVFFlat(_one_list(patches), patches.dim, lists, kind)
    # Every list needs a point; FAISS would warn below 39 points a list.
    index.cp.seed = SEED + 1
    index.cp.spherical = patches.metric == "cosine"
    index.cp.min_points_per_centroid = 1
    index.train(sample)
    index.nprobe = min(PROBED, lists)
    return index


def _one_list(patches: Patches) -> Any:
    faiss: Any = faiss_module()
    return (faiss.IndexFlatIP if patches.metric == "cosine" else faiss.IndexFlatL2)(patches.dim)


def _write_faiss(path: Path, index: Any, dim: int, lists: int) -> Pieces:
    """Write an index. A flat one is a single piece; FAISS puts inverted lists last, and each of
    them is a piece."""
    data = faiss_module().serialize_index(index)  # type: ignore[union-attr]
    sizes: list[int] = []
    if lists > 1:
        # Vectors and numbers of each list.
        sizes = [index.invlists.list_size(number) * (4 * dim + ID_BYTES) for number in range(lists)]
    write_file(path, data)
    return indexes.describe(data, [len(data) - sum(sizes), *sizes])


def _read_faiss(file: CheckedFile, mapped: bool) -> Any:
    """Return the FAISS index of a file; `mapped` leaves its lists on disk until they are used."""
    faiss: Any = faiss_module()
    file.check(0)
    try:
        return faiss.read_index(str(file.path), faiss.IO_FLAG_MMAP if mapped else 0)
    except RuntimeError as error:
        raise indexes.DamagedIndexError(
            f"{file.path}: FAISS {faiss.__version__} cannot read it: {error}"
        ) from None


def _add_all(index: Any, dim: int, best: Best) -> None:
    faiss: Any = faiss_module()
    # A view of the vectors inside the index, copied a step at a time.
    vectors = faiss.rev_swig_ptr(
        faiss.downcast_index(index.index).get_xb(), index.ntotal * dim
    ).reshape(-1, dim)
    numbers = faiss.vector_to_array(index.id_map)
    step = max(1, READ_BYTES // (4 * dim))
    for start in range(0, len(numbers), step):
        best.add(numbers[start : start + step], vectors[start : start + step].copy())


def _probed_lists(index: Any, file: CheckedFile, dim: int, query: Array) -> Chunk:
    """Return the patches of the lists nearest to the query (1, dim), by rising number; only these
    lists are read."""
    faiss: Any = faiss_module()
    _, nearest_lists = index.quantizer.search(query, index.nprobe)
    numbers = [np.empty(0, np.int64)]
    vectors = [np.empty((0, dim), np.float32)]
    for number in sorted(nearest_lists[0].tolist()):
        size = index.invlists.list_size(number)
        if size:
            # Piece 0 is the head of the file: the lists follow.
            file.check(1 + number)
            codes = faiss.rev_swig_ptr(index.invlists.get_codes(number), size * 4 * dim)
            vectors.append(codes.view(np.float32).reshape(size, dim).copy())
            numbers.append(faiss.rev_swig_ptr(index.invlists.get_ids(number), size).copy())
    all_numbers = np.concatenate(numbers)
    all_vectors = np.concatenate(vectors)
    order = np.argsort(all_numbers)
    return all_numbers[order], all_vectors[order]


def _found_by_index(index: PatchIndex, queries: Array, metric: Metric) -> Numbers:
    """Return the numbers that the index retrieves, (query, RECALL_AT + 1), -1 where they are
    fewer."""
    import torch

    groups = [queries] if index.attributes["kind"] == "flat" else list(queries[:, None])
    bests = [Best(group, RECALL_AT + 1, metric, torch.device("cpu")) for group in groups]
    index.search_into(*bests)
    retrieved = np.full((len(queries), RECALL_AT + 1), -1, np.int64)
    rows = (row for best in bests for row in best.numbers)
    for row, numbers in enumerate(rows):
        retrieved[row, : len(numbers)] = numbers
    return retrieved


def recall(query_numbers: Numbers, exact: Numbers, retrieved: Numbers) -> dict[str, Any]:
    """Return the share of each query's RECALL_AT exact nearest patches that were retrieved: mean
    over queries.

    A query (query,) itself does not count; exact and retrieved (query, RECALL_AT + 1) are best
    first.
    """
    shares = []
    rows = zip(query_numbers.tolist(), exact.tolist(), retrieved.tolist(), strict=True)
    for query, nearest, answers in rows:
        # A query's patch is its nearest neighbor, and says nothing about the index.
        expected = [number for number in nearest if number != query][:RECALL_AT]
        answered = [number for number in answers if number != query][:RECALL_AT]
        if expected:
            shares.append(len(set(expected) & set(answered)) / len(expected))
    return {"recall_at_10": float(np.mean(shares)) if shares else None, "n": len(shares)}
