"""kvtool.search against a double loop over every patch; the index against FAISS used by hand,
damage and company.
"""

from __future__ import annotations

import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import kvtool
from kvtool.errors import KvtoolError, UsageError
from kvtool.features import patch_index
from kvtool.features.neighbors import Metric, nearest
from kvtool.features.patch_index import RECALL_AT, RECALL_QUERIES, SEED, n_lists
from kvtool.features.patches import Best, Patches, sample_numbers
from kvtool.result import Result
from kvtool.store import Run, indexes, open_store
from kvtool.store.verify import verify
from kvtool.types import Block, Kind, Sample
from tests.support.runs import dead_process
from tests.support.units import DIM, PLANTED, noise, sample, write_run

Array = np.ndarray[Any, Any]
LAYER, HEAD = PLANTED
BLOCK: dict[str, Any] = {"layer": LAYER, "kv_head": HEAD}


def images(count: int = 12) -> list[Sample]:
    """Grids of different shapes, some with newline tokens, some with a token before the grid or a
    cropped cover.
    """
    samples = []
    for i in range(count):
        grid = (3 + i % 3, 4 + i % 2)
        cover = (10.0, 0.0, 70.0, 60.0) if i % 4 == 3 else None
        samples.append(
            sample(f"img{i:02d}", i, (80, 60), grid, newline=i % 2 == 1, start=i % 3, cover=cover)
        )
    return samples


def make_run(
    path: Path, fill: Any = None, samples: list[Sample] | None = None, **options: Any
) -> Run:
    return write_run(
        path / "s.kv", "folder", "all", path, samples or images(), fill or noise(3), **options
    )


def all_patches(
    run: Run, kind: Kind, layer: int, head: int
) -> list[tuple[str, int, int, int, Array]]:
    """(image, row, col, token, vector) of every patch, read image by image."""
    patches = []
    for image in run.samples:
        values = run.read_image(image.id, [kind])[kind][
            run.config.stored_layers(kind).index(layer), head
        ]
        span = image.base(kind)
        for number, token in enumerate(span.token_indices()):
            patches.append(
                (image.id, *divmod(number, span.grid[1]), token, values[token].astype(float))
            )
    return patches


def score(a: Array, b: Array, metric: Metric) -> float:
    if metric == "l2":
        return float(-((a - b) ** 2).sum())
    norm = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / norm) if norm else 0.0


def by_hand(
    run: Run,
    image: str,
    cell: tuple[int, int],
    k: int,
    metric: Metric,
    kind: Kind,
    layer: int,
    head: int,
) -> Any:
    """(image, token) of the patch itself, then of the others by (score, place), with their
    scores.
    """
    patches = all_patches(run, kind, layer, head)
    query = next(
        i for i, (name, row, col, _, _) in enumerate(patches) if (name, row, col) == (image, *cell)
    )
    scores = [score(patches[query][4], vector, metric) for *_, vector in patches]
    order = sorted(range(len(patches)), key=lambda i: (i != query, -round(scores[i], 6), i))[:k]
    return [(patches[i][0], patches[i][3]) for i in order], [scores[i] for i in order]


def found(result: Result) -> list[tuple[str, int]]:
    return [(row["image"], row["token"]) for row in result.rows]


def centre(run: Run, image: str, row: int, col: int, kind: Kind = "value") -> tuple[float, float]:
    return next(s for s in run.samples if s.id == image).base(kind).centre_px(row, col)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inverted lists from 64 patches on, of which a search reads two, and several reads a run."""
    monkeypatch.setattr(patch_index, "PIECE_BYTES", 64 * 4 * DIM)
    monkeypatch.setattr(patch_index, "TRAINING_PER_LIST", 8)
    monkeypatch.setattr(patch_index, "PROBED", 2)
    monkeypatch.setattr("kvtool.features.patches.READ_BYTES", 40 * 4 * DIM)


def test_planted_patches_are_found_in_order(tmp_path: Path) -> None:
    direction = np.ones(DIM)
    planted = {("img02", 1): 0.0, ("img07", 11): 0.02, ("img00", 5): 0.04, ("img09", 8): 0.06}

    def fill(s: Sample, layer: int, head: int) -> Array:
        values = noise(3)(s, layer, head)
        if (layer, head) == PLANTED:
            values -= values @ direction[:, None] * direction / DIM  # nothing else is near
            for (image, cell), angle in planted.items():
                if image == s.id:
                    normal = np.cos(np.arange(DIM))
                    normal -= normal @ direction * direction / DIM
                    scale = np.sqrt(DIM) / np.linalg.norm(normal)
                    values[s.base().token_indices()[cell]] = (
                        direction + np.tan(angle * 5) * normal * scale
                    )
        return values

    run = make_run(tmp_path, fill)
    spans = {s.id: s.base() for s in run.samples}
    row, col = divmod(1, spans["img02"].grid[1])
    result = kvtool.search(run, "img02", centre(run, "img02", row, col), k=4, **BLOCK)
    assert found(result) == [(image, spans[image].token_indices()[cell]) for image, cell in planted]
    np.testing.assert_allclose(
        [r["score"] for r in result.rows], np.cos(np.array(list(planted.values())) * 5), atol=0.01
    )
    assert [r["rank"] for r in result.rows] == [1, 2, 3, 4]
    for r in result.rows:
        assert (r["x_px"], r["y_px"]) == spans[r["image"]].centre_px(r["row"], r["col"])
        assert spans[r["image"]].token_at(r["x_px"], r["y_px"]) == r["token"]
    elsewhere = kvtool.search(
        run, "img02", centre(run, "img02", row, col), k=4, layer=LAYER, kv_head=0
    )
    assert found(elsewhere)[1:] != found(result)[1:]


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize(
    ("kind", "layer", "head"), [("value", 5, 1), ("projected", 0, 0), ("vision", 3, 0)]
)
def test_flat_and_exact_are_the_double_loop(
    tmp_path: Path,
    metric: Metric,
    kind: Kind,
    layer: int,
    head: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kvtool.features.patches.READ_BYTES", 30 * 4 * DIM)
    run = make_run(tmp_path)
    query = ("img03", centre(run, "img03", 2, 1, kind))
    options: dict[str, Any] = {
        "kind": kind,
        "layer": layer,
        "kv_head": head,
        "k": 25,
        "metric": metric,
    }
    expected, scores = by_hand(run, "img03", (2, 1), 25, metric, kind, layer, head)
    for exact in (True, False, False):
        result = kvtool.search(run, *query, exact=exact, **options)
        assert found(result) == expected
        np.testing.assert_allclose([row["score"] for row in result.rows], scores, atol=1e-5 * 30)
        assert result.config["index"]["kind"] == ("none" if exact else "flat")
    assert result.config["index"]["recall_at_10"] == 1
    assert result.config["index"]["n"] == RECALL_QUERIES
    assert "kept, flat" in result.config["notes"][-1]


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.usefixtures("small")
def test_equal_patches_come_by_image_and_token_after_the_patch_itself(
    tmp_path: Path, metric: Metric
) -> None:
    run = make_run(tmp_path, lambda s, _layer, _head: np.ones((s.n_tokens, DIM)), layers=6)
    expected, _ = by_hand(run, "img05", (1, 1), 20, metric, "value", LAYER, HEAD)
    for exact in (True, False):
        result = kvtool.search(
            run, "img05", centre(run, "img05", 1, 1), k=20, metric=metric, exact=exact, **BLOCK
        )
        assert found(result) == expected
    assert expected[0][0] == "img05"
    assert expected[1] == ("img00", 0)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.usefixtures("small")
def test_recall_of_inverted_lists_is_what_faiss_gives_by_hand(
    tmp_path: Path, metric: Metric
) -> None:
    run = make_run(tmp_path)
    result = kvtool.search(run, "img03", centre(run, "img03", 2, 1), k=10, metric=metric, **BLOCK)
    index = result.config["index"]
    patches = all_patches(run, "value", LAYER, HEAD)
    assert (index["kind"], index["patches"], index["probed"]) == ("ivf", len(patches), 2)
    assert index["lists"] == n_lists(len(patches), DIM) == 8
    vectors = np.stack([vector for *_, vector in patches]).astype(np.float32)
    if metric == "cosine":
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    shares = []
    folder = indexes.folder_of(run) / indexes.names(run)[0]
    files = sorted(folder.glob("*.faiss"))
    assert len(files) == -(-len(patches) // 64)
    shards = [faiss.read_index(str(file)) for file in files]
    assert sum(shard.ntotal for shard in shards) == len(patches)
    for number in sample_numbers(len(patches), RECALL_QUERIES, SEED).tolist():
        exact = sorted(
            range(len(patches)), key=lambda i: (-score(vectors[number], vectors[i], metric), i)
        )
        hits = []
        for shard in shards:
            similarities, numbers = shard.search(vectors[None, number], RECALL_AT + 1)
            sign = 1 if metric == "cosine" else -1
            hits += [
                (-sign * s, n)
                for s, n in zip(similarities[0].tolist(), numbers[0].tolist(), strict=True)
                if n >= 0
            ]
        got = [n for _, n in sorted(hits) if n != number][:RECALL_AT]
        expected = [n for n in exact if n != number][:RECALL_AT]
        shares.append(len(set(got) & set(expected)) / RECALL_AT)
    assert index["recall_at_10"] == pytest.approx(np.mean(shares), abs=1e-9)
    assert 0.2 < index["recall_at_10"] < 1
    assert index["n"] == len(shares)
    assert (
        f"recall_at_10 {index['recall_at_10']:.3f} over {len(shares)} queries"
        in result.config["notes"][-1]
    )
    # What is found is scored exactly, and the patch itself is first.
    scores = dict(
        zip(*by_hand(run, "img03", (2, 1), len(patches), metric, "value", LAYER, HEAD), strict=True)
    )
    assert found(result)[0] == ("img03", result.rows[0]["token"])
    np.testing.assert_allclose(
        [r["score"] for r in result.rows], [scores[p] for p in found(result)], atol=1e-5 * 30
    )


@pytest.mark.usefixtures("small")
def test_all_lists_probed_are_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patch_index, "PROBED", 8)
    run = make_run(tmp_path)
    query: Any = (run, "img08", centre(run, "img08", 0, 0))
    by_index = kvtool.search(*query, **BLOCK)
    assert by_index.rows == kvtool.search(*query, exact=True, **BLOCK).rows
    assert by_index.config["index"]["recall_at_10"] == 1


@pytest.mark.usefixtures("small")
def test_no_file_outgrows_its_bound(tmp_path: Path) -> None:
    run = make_run(tmp_path, samples=images(40), layers=6)
    kvtool.search(run, "img08", centre(run, "img08", 0, 0), **BLOCK)
    lists = n_lists(len(all_patches(run, "value", LAYER, HEAD)), DIM)
    sizes = [file.stat().st_size for file in indexes.folder_of(run).rglob("*.faiss")]
    assert len(sizes) > 8
    assert max(sizes) <= 64 * (4 * DIM + 8) + lists * (4 * DIM + 8) + 300


def test_number_of_lists() -> None:
    assert n_lists(2**18, 128) == 1
    assert n_lists(2**18 + 1, 128) == 512
    assert n_lists(729_000, 128) == 1024
    assert n_lists(729_000, 3584) == 128
    assert n_lists(10**9, 128) == 4096


@pytest.mark.usefixtures("small")
def test_twice_the_same(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    query: Any = (run, "img08", centre(run, "img08", 0, 0))
    first = kvtool.search(*query, **BLOCK)
    files = {file: file.read_bytes() for file in indexes.folder_of(run).rglob("*.faiss")}
    again = kvtool.search(*query, fresh=True, **BLOCK)
    assert "built" in again.config["notes"][-1]
    assert again.rows == first.rows
    assert {file: file.read_bytes() for file in files} == files


def test_a_longer_run_has_a_new_index_in_place_of_the_old(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    last = sorted((run.folder / "parts").glob("0*"))[-1]
    shutil.move(last, tmp_path / "aside")
    run = open_store(run.store).run()
    assert len(run.ids) == 10
    query: Any = ("img03", centre(run, "img03", 0, 0))
    shorter = kvtool.search(run, *query, k=500, **BLOCK)
    (name,) = indexes.names(run)
    kvtool.search(run, *query, layer=2, kv_head=0)
    kvtool.search(run, *query, metric="l2", **BLOCK)
    shutil.move(tmp_path / "aside", last)
    run = open_store(run.store).run()
    longer = kvtool.search(run, *query, k=500, **BLOCK)
    assert longer.n > shorter.n
    assert {row["image"] for row in longer.rows} - {row["image"] for row in shorter.rows} == {
        "img10",
        "img11",
    }
    assert found(longer) == by_hand(run, "img03", (0, 0), 500, "cosine", "value", LAYER, HEAD)[0]
    assert name not in indexes.names(run)
    assert len(indexes.names(run)) == 3


def damages(folder: Path) -> dict[str, Any]:
    """Ways to harm an index: the file, and what to do to it."""
    shards, attributes = sorted(folder.glob("*.faiss")), folder / "zarr.json"
    return {
        "attributes": (attributes, "flip 200"),
        "attributes gone": (attributes, "unlink"),
        "gone": (shards[-1], "unlink"),
        "short": (shards[-1], "cut"),
        "head": (shards[0], "flip 30"),
    }


def harm(path: Path, damage: str) -> None:
    data = bytearray(path.read_bytes())
    if damage.startswith("flip"):
        data[int(damage.split()[1])] ^= 4
    elif damage == "cut":
        del data[-5:]
    else:
        path.unlink()
        return
    path.write_bytes(data)


@pytest.mark.parametrize("which", ["attributes", "gone", "short", "head", "attributes gone"])
@pytest.mark.usefixtures("small")
def test_a_damaged_index_is_noticed_and_built_again(tmp_path: Path, which: str) -> None:
    run = make_run(tmp_path, layers=6)
    query: Any = (run, "img08", centre(run, "img08", 0, 0))
    good = kvtool.search(*query, **BLOCK)
    folder = indexes.folder_of(run) / indexes.names(run)[0]
    harm(*damages(folder)[which])
    (problem,) = verify(open_store(run.store))
    assert (problem.run, problem.part) == (run.name, f"indexes/{folder.name}")
    assert "it is built again" in problem.what
    again = kvtool.search(*query, **BLOCK)
    assert again.rows == good.rows
    assert any("not used" in note for note in again.config["notes"])
    assert "built" in again.config["notes"][-1]
    assert verify(open_store(run.store)) == []


@pytest.mark.usefixtures("small")
@pytest.mark.slow
def test_a_flipped_byte_anywhere_never_changes_an_answer(tmp_path: Path) -> None:
    """Lists that are not read may be damaged unseen; any that is read is checked."""
    run = make_run(tmp_path, layers=6)
    query: Any = (run, "img08", centre(run, "img08", 0, 0))
    good = kvtool.search(*query, **BLOCK)
    folder = indexes.folder_of(run) / indexes.names(run)[0]
    noticed = 0
    for file in sorted(folder.glob("*.faiss")):
        for position in range(7, file.stat().st_size, 1201):
            harm(file, f"flip {position}")
            again = kvtool.search(*query, **BLOCK)
            assert again.rows == good.rows
            if "kept" in again.config["notes"][-1]:
                harm(file, f"flip {position}")
            else:
                noticed += 1
    assert noticed > 2


@pytest.mark.usefixtures("small")
@pytest.mark.slow
def test_every_list_is_checked_when_all_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patch_index, "PROBED", 8)
    run = make_run(tmp_path, layers=6)
    query: Any = (run, "img08", centre(run, "img08", 0, 0))
    kvtool.search(*query, **BLOCK)
    folder = indexes.folder_of(run) / indexes.names(run)[0]
    for file in sorted(folder.glob("*.faiss")):
        for position in range(7, file.stat().st_size, 1999):
            harm(file, f"flip {position}")
            assert "built" in kvtool.search(*query, **BLOCK).config["notes"][-1], (file, position)


def test_verify_knows_an_index_and_removing_the_run_drops_it(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    kvtool.search(run, "img08", centre(run, "img08", 0, 0), **BLOCK)
    store = open_store(run.store)
    assert verify(store) == []
    folder = indexes.folder_of(run)
    (folder / "notes.txt").write_text("mine")
    (folder / indexes.names(run)[0] / "notes.txt").write_text("mine")
    assert sum("not a file of kvtool" in problem.what for problem in verify(store)) == 2
    store.remove_run(run.name)
    assert not folder.exists()
    assert [path.name for path in (store.path / "tmp").iterdir()] == ["zarr.json"]


def test_what_a_killed_builder_left_is_swept_by_the_next(tmp_path: Path) -> None:
    run = make_run(tmp_path, layers=6)
    left = run.store / "tmp" / f"{dead_process().tag}-0"
    left.mkdir()
    (left / "00000.faiss").write_bytes(b"half")
    kvtool.search(run, "img08", centre(run, "img08", 0, 0), **BLOCK)
    assert [path.name for path in (run.store / "tmp").iterdir()] == ["zarr.json"]


def test_two_builders_keep_one_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have written theirs before either is renamed into place."""
    run = make_run(tmp_path)
    barrier = threading.Barrier(2, timeout=60)
    write = patch_index._write

    def write_and_wait(*arguments: Any) -> Any:
        done = write(*arguments)
        barrier.wait()
        return done

    monkeypatch.setattr(patch_index, "_write", write_and_wait)
    results: list[Result] = []

    def build() -> None:
        mine = open_store(run.store).run()
        results.append(kvtool.search(mine, "img08", centre(run, "img08", 0, 0), **BLOCK))

    builders = [threading.Thread(target=build) for _ in range(2)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    assert len(results) == 2
    assert results[0].rows == results[1].rows
    assert len(indexes.names(run)) == 1
    assert verify(open_store(run.store)) == []
    assert [path.name for path in (run.store / "tmp").iterdir()] == ["zarr.json"]


def test_an_index_that_vanishes_is_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path)
    keep, stored = indexes.keep, []

    def keep_and_lose(run: Run, name: str, write: Any) -> None:
        keep(run, name, write)
        stored.append(name)
        if len(stored) == 1:
            indexes.drop(run, name)

    monkeypatch.setattr(indexes, "keep", keep_and_lose)
    result = kvtool.search(run, "img08", centre(run, "img08", 0, 0), k=9, **BLOCK)
    assert len(stored) == 2
    assert found(result) == by_hand(run, "img08", (0, 0), 9, "cosine", "value", LAYER, HEAD)[0]


def test_without_faiss_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kvtool.features import neighbors

    run = make_run(tmp_path)
    neighbors.available.cache_clear()
    monkeypatch.setitem(sys.modules, "faiss", None)
    try:
        result = kvtool.search(run, "img08", centre(run, "img08", 0, 0), k=9, **BLOCK)
        assert not neighbors.available()["faiss-cpu"]
    finally:
        neighbors.available.cache_clear()
    assert not indexes.folder_of(run).exists()
    assert found(result) == by_hand(run, "img08", (0, 0), 9, "cosine", "value", LAYER, HEAD)[0]
    assert "FAISS is not installed" in result.config["notes"][-1]
    assert result.config["index"] == {
        "kind": "none",
        "patches": result.n,
        "recall_at_10": None,
        "n": 0,
    }


def test_a_store_that_cannot_be_written_is_searched_exactly(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    shutil.rmtree(run.store / "tmp")
    (run.store / "tmp").write_text("in the way")
    result = kvtool.search(run, "img08", centre(run, "img08", 0, 0), k=9, **BLOCK)
    assert found(result) == by_hand(run, "img08", (0, 0), 9, "cosine", "value", LAYER, HEAD)[0]
    assert "no index: " in result.config["notes"][-1]
    assert "Not a directory" in result.config["notes"][-1]
    assert not indexes.folder_of(run).exists()


@pytest.mark.parametrize("exact", [True, False])
def test_exclude_self_leaves_out_the_whole_image(tmp_path: Path, exact: bool) -> None:
    run = make_run(tmp_path)
    query: Any = (run, "img08", centre(run, "img08", 0, 0))
    everything = kvtool.search(*query, k=500, exact=exact, **BLOCK)
    result = kvtool.search(*query, k=20, exclude_self=True, exact=exact, **BLOCK)
    assert found(result) == [hit for hit in found(everything) if hit[0] != "img08"][:20]
    assert [row["rank"] for row in result.rows] == list(range(1, 21))
    assert found(kvtool.search(*query, k=1, exact=exact, **BLOCK)) == found(everything)[:1]


def test_more_asked_than_there_are(tmp_path: Path) -> None:
    run = make_run(tmp_path, samples=[sample("a", 0, (10, 10), (1, 1))], layers=6)
    for k in (1, 5):
        result = kvtool.search(run, "a", (0, 0), k=k, **BLOCK)
        assert found(result) == [("a", 0)]
        assert result.config["index"]["recall_at_10"] is None
    assert kvtool.search(run, "a", (0, 0), exclude_self=True, **BLOCK).rows == []


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.usefixtures("small")
def test_vectors_that_are_not_finite_are_left_out(tmp_path: Path, exact: bool) -> None:
    def fill(s: Sample, layer: int, head: int) -> Array:
        values = noise(3)(s, layer, head)
        values[s.base().token_indices()[::2]] = (
            [np.nan, *[1.0] * (DIM - 1)] if s.index % 2 else np.inf
        )
        return values

    run = make_run(tmp_path, fill, layers=6)
    result = kvtool.search(run, "img04", centre(run, "img04", 0, 1), k=10, exact=exact, **BLOCK)
    assert len(result.rows) == 10
    assert all(np.isfinite(row["score"]) for row in result.rows)
    with pytest.raises(KvtoolError, match="is not finite"):
        kvtool.search(run, "img04", centre(run, "img04", 0, 0), exact=exact, **BLOCK)


def test_a_run_of_an_encoder_alone(tmp_path: Path) -> None:
    run = make_run(tmp_path, kinds=("vision",))
    result = kvtool.search(run, "img08", centre(run, "img08", 1, 1, "vision"), k=7)
    assert found(result) == by_hand(run, "img08", (1, 1), 7, "cosine", "vision", 3, 0)[0]
    assert (result.config["kind"], result.config["layer"], result.config["kv_head"]) == (
        "vision",
        3,
        0,
    )
    with pytest.raises(UsageError, match="has no value, only vision"):
        kvtool.search(run, "img08", (1, 1), kind="value")


def keep_probe(
    run: Run, task: str, scores: dict[tuple[str, int, int], float], **config: Any
) -> None:
    rows: list[dict[str, Any]] = [
        {"kind": k, "layer": i, "kv_head": h, "pck_image": v, "n": 1}
        for (k, i, h), v in scores.items()
    ]
    best = {
        **max((row for row in rows if row["kind"] == "value"), key=lambda row: row["pck_image"]),
        "select": "max",
    }
    result = Result(
        "probe", task, "pck_image", 1, rows, best, config={"run_hash": run.config.hash, **config}
    )
    open_store(run.store).save_result(
        f"key{len(list(open_store(run.store).results_dir.iterdir()))}", result.to_json()
    )


def block(run: Run, **options: Any) -> tuple[Any, ...]:
    config = kvtool.search(run, "img08", (40, 30), exact=True, **options).config
    return config["kind"], config["layer"], config["kv_head"], config["block_from"].split(" ")[0]


def test_the_block_is_the_best_of_the_last_correspondence_probe(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert block(run) == ("value", 4, 0, "no")
    keep_probe(run, "foreground-segmentation", {("value", 1, 0): 0.5, ("value", 2, 1): 0.7})
    assert block(run) == ("value", 2, 1, "best")
    scores = {
        ("value", 3, 0): 0.5,
        ("value", 5, 1): 0.7,
        ("value", 6, 0): 0.6,
        ("vision", 3, 0): 0.9,
    }
    keep_probe(run, "semantic-correspondence", scores)
    keep_probe(run, "co-segmentation", {("value", 1, 1): 0.9})
    keep_probe(run, "semantic-correspondence", {("value", 0, 0): 0.9}, run_hash="of another run")
    (open_store(run.store).results_dir / "bad.json").write_text("{}")
    assert block(run) == ("value", 5, 1, "best")
    assert block(run, kv_head=0) == ("value", 6, 0, "best")
    assert block(run, layer=3) == ("value", 3, 0, "best")
    assert block(run, layer=7) == ("value", 7, 0, "no")
    assert block(run, layer=7, kv_head=1) == ("value", 7, 1, "as")
    assert block(run, kind="vision") == ("vision", 3, 0, "best")
    assert block(run, kind="projected") == ("projected", 0, 0, "no")


def test_bad_requests(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    for options, message in (
        ({"k": 0}, "k: expected a whole number from 1 to 1000000, found 0"),
        ({"metric": "dot"}, "metric is cosine or l2"),
        ({"layer": 99}, "no layer 99 of value, only 0, 1"),
        ({"kv_head": 2}, "no kv_head 2 of value: expected 0 to 1"),
        ({"kv_head": -1}, "kv_head: expected a whole number from 0 "),
        ({"kind": "key"}, "no key, only value, projected, vision"),
        ({"device": "cuda:99"}, "expected cuda:99 to exist"),
    ):
        with pytest.raises(UsageError, match=message):
            kvtool.search(run, "img08", (40, 30), **options)
    with pytest.raises(UsageError, match=r"no image 'img8' among the 12 .* nearest: 'img08'"):
        kvtool.search(run, "img8", (40, 30))
    for at_px in ((80, 30), (-1, 30), (40, 60), (float("nan"), 1)):
        with pytest.raises(
            UsageError, match=r"outside image img08 \(80 x 60 px\): expected x from 0 to below 80"
        ):
            kvtool.search(run, "img08", at_px)
    with pytest.raises(UsageError, match=r"the model saw a part\): expected x from 10 to below 70"):
        kvtool.search(run, "img03", (5, 5))
    assert not indexes.folder_of(run).exists()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["cosine", "l2"]), st.integers(1, 12))
def test_the_best_do_not_depend_on_the_chunks(seed: int, metric: Metric, k: int) -> None:
    """Few distinct small integer vectors: duplicates, zeros and exact ties abound."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-1, 2, size=(40, 3)).astype(np.float32)
    queries, numbers = vectors[:5].copy(), np.sort(rng.choice(1000, 40, replace=False))
    cuts = np.sort(rng.integers(0, 41, size=3))
    best = Best(queries, k, metric, torch.device("cpu"))
    order = rng.permutation(4)
    for chunk in (np.split(np.arange(40), cuts)[i] for i in order):
        best.add(numbers[chunk], vectors[chunk])
    scores, expected = nearest(queries[None], vectors[None], k, metric=metric, backend="numpy")
    np.testing.assert_array_equal(best.numbers, numbers[expected[0]])
    np.testing.assert_allclose(best.scores, scores[0], atol=1e-6)


def test_gather_gives_the_chunks_patches(tmp_path: Path) -> None:
    patches = Patches(make_run(tmp_path), Block("value", LAYER, HEAD), "l2")
    everything = [np.concatenate(chunks) for chunks in zip(*patches.chunks(), strict=True)]
    np.testing.assert_array_equal(everything[0], np.arange(len(patches)))
    picks = sample_numbers(len(patches), 30, 7)
    numbers, vectors = patches.gather(picks)
    np.testing.assert_array_equal(numbers, picks)
    np.testing.assert_array_equal(vectors, everything[1][picks])
    for number in picks.tolist():
        sample, row, col = patches.place(number)
        token = sample.base().start + row * sample.base().row_stride + col
        np.testing.assert_array_equal(
            everything[1][number], patches.run.read_image(sample.id)["value"][LAYER, HEAD, token]
        )
