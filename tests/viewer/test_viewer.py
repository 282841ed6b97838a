"""What the viewer answers: the stored bits, pictures, truth, scores and nearest patches."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import kvtool
from kvtool.errors import KvtoolError, UsageError
from kvtool.features import patches
from kvtool.store import Run
from kvtool.viewer import nearest
from kvtool.viewer.vectors import cosine_maps
from kvtool.viewer.viewer import Viewer, runs_by_name
from tests.support import sae_results
from tests.support.tasks import semantic_correspondence as spair
from tests.support.tasks import temporal_correspondence as davis
from tests.support.units import PLANTED, noise
from tests.support.videos import write_videos

Scope = dict[str, str]
BLOCK = {"kind": "value", "layer": str(PLANTED[0]), "kv_head": str(PLANTED[1])}


def ask(viewer: Viewer, resource: str, **texts: str) -> Any:
    return json.loads(viewer.answer(resource, texts).body)


def maps_of(viewer: Viewer, scope: Scope, **texts: str) -> np.ndarray[Any, Any]:
    reply = viewer.answer("maps", {**scope, **texts})
    heads, cells = map(int, reply.labels["shape"].split(","))
    return np.frombuffer(reply.body, np.float32).reshape(heads, cells)


@pytest.mark.slow
def test_maps_of_all_heads_are_cosines(viewer: Viewer, scope: Scope, run: Run) -> None:
    maps = maps_of(viewer, scope, kind="value", layer="3,5", token="20")
    vectors = run.read("value", [3, 5], run.kv_heads, [scope["image"]]).values.astype(np.float64)
    unit = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).reshape(4, 48, 16)
    expected = np.einsum("htd,hd->ht", unit, unit[:, 20])
    assert maps == pytest.approx(expected, abs=1e-6)
    tower = maps_of(viewer, scope, kind="vision", layer="3", token="0")
    assert tower.shape == (1, 48)
    assert tower[0, 0] == pytest.approx(1, abs=1e-6)


def test_maps_of_odd_vectors_are_those_of_the_browser() -> None:
    """A vector of zeros is like nothing; one that is not finite has no cosine."""
    vectors = np.array([[[1, 0], [0, 0], [np.nan, 1], [np.inf, 0], [-2, 0]]], np.float32)
    maps = cosine_maps(vectors, 0)
    assert maps[0, [0, 1, 4]].tolist() == [1, 0, -1]
    assert np.isnan(maps[0, 2:4]).all()
    assert cosine_maps(vectors, 1)[0, [0, 1, 4]].tolist() == [0, 0, 0]


def picture_of(body: bytes) -> np.ndarray[Any, Any]:
    with Image.open(io.BytesIO(body)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.slow
def test_a_block_is_sent_as_it_is_stored(viewer: Viewer, scope: Scope, run: Run) -> None:
    reply = viewer.answer("block", {**scope, **BLOCK})
    stored = run.read("value", *PLANTED, [scope["image"]], raw=True).values
    assert reply.body == stored.tobytes()
    assert reply.labels == {"dtype": "bfloat16", "shape": "48,16"}
    assert reply.name == ""
    version = ask(viewer, "image", **scope)["version"]
    lasting = viewer.answer("block", {**scope, **BLOCK, "version": version})
    assert lasting.body == reply.body
    assert lasting.tag == lasting.name != ""
    changed = viewer.answer("block", {**scope, **BLOCK, "version": "of another picture"})
    assert changed.name == ""
    assert changed.tag == reply.tag


@pytest.mark.slow
def test_layers_are_all_of_their_heads(viewer: Viewer, scope: Scope, run: Run) -> None:
    reply = viewer.answer("block", {**scope, "kind": "value", "layer": "3,5"})
    heads = run.read("value", [3, 5], run.kv_heads, [scope["image"]], raw=True).values
    assert reply.labels["shape"] == "2,2,48,16"
    assert reply.body == heads.tobytes()
    one_head = viewer.answer("block", {**scope, "kind": "vision", "layer": "3"})
    assert one_head.labels["shape"] == "1,1,48,16"


def test_the_record_of_a_run_and_of_an_image(viewer: Viewer, scope: Scope, run: Run) -> None:
    record = ask(viewer, "run", **scope)
    assert record["images"] == run.ids
    assert [kind["kind"] for kind in record["kinds"]] == run.config.vector_kinds
    assert record["kinds"][0]["heads"] == [len(run.kv_heads)] * len(run.layers)
    image = ask(viewer, "image", **scope)
    assert image["grids"]["value"]["grid"] == list(spair.GRID)
    assert image["wh_px"] == list(spair.WH)


def test_scores_are_those_of_the_kept_probe(viewer: Viewer, scope: Scope, run: Run) -> None:
    (probe,) = ask(viewer, "scores", **scope)["scores"]
    result = kvtool.probe(run, spair.TASK)
    best = max(probe["blocks"], key=lambda row: row[3])
    assert probe["task"] == spair.TASK
    assert best[:3] == ["value", *PLANTED]
    assert result.best is not None
    assert best[3] == pytest.approx(result.best[result.metric], abs=1e-6)
    assert probe["metric"] == "PCK"


@pytest.mark.slow
def test_a_probe_of_one_block_hides_none_that_was_kept(
    viewer: Viewer, scope: Scope, run: Run
) -> None:
    kvtool.probe(run, spair.TASK, layers=[PLANTED[0]], heads=[PLANTED[1]], kinds=["value"])
    (probe,) = ask(viewer, "scores", **scope)["scores"]
    n_blocks = sum(row[0] == "value" for row in probe["blocks"])
    assert n_blocks == len(run.layers) * len(run.kv_heads)


def test_pairs_have_their_keypoints_and_circle(viewer: Viewer, scope: Scope, run: Run) -> None:
    record = ask(viewer, "pairs", **scope)
    assert len(record["pairs"]) == 2 * 4 * 3
    pair = record["pairs"][0]
    assert {pair["source"], pair["target"]} <= set(run.ids)
    truth = next(iter((Path(run.place or "") / "PairAnnotation/test").glob(f"{pair['pair']}.json")))
    annotation = json.loads(truth.read_text())
    assert pair["target_px"] == annotation["trg_kps"]
    x0, y0, x1, y1 = annotation["trg_bndbox"]
    assert pair["radius_px"] == pytest.approx(0.1 * max(x1 - x0, y1 - y0))


@pytest.mark.parametrize(("has_faiss", "images_read"), [(True, 1000), (True, 3), (False, 1000)])
def test_nearest_patches_are_those_of_all_patches(
    viewer: Viewer,
    scope: Scope,
    run: Run,
    has_faiss: bool,
    images_read: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whether or not FAISS is there, and whether one thread searches or several."""
    monkeypatch.setattr(patches, "READ_BYTES", images_read * 4 * 48 * 16)
    if not has_faiss:
        monkeypatch.setattr(nearest, "faiss_module", lambda: None)
    rows = ask(viewer, "nearest", **scope, **BLOCK, token="7", k="9")["rows"]
    # The reference: every patch of every other image, in double precision.
    values, images = run.read("value", *PLANTED)
    unit = values.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    source = next(image for image in images if image.id == scope["image"])
    cosines = unit @ unit[source.start + 7]
    cosines[source.start : source.stop] = -np.inf
    assert [row["score"] for row in rows] == pytest.approx(np.sort(cosines)[::-1][:9], abs=1e-6)
    start = {image.id: image.start for image in images}
    for row in rows:
        assert cosines[start[row["image"]] + row["token"]] == pytest.approx(row["score"], abs=1e-6)


def test_nearest_patches_write_nothing(viewer: Viewer, scope: Scope, run: Run) -> None:
    before = sorted(path for path in Path(run.store).rglob("*"))
    ask(viewer, "nearest", **scope, **BLOCK, token="3")
    ask(viewer, "scores", **scope)
    assert sorted(path for path in Path(run.store).rglob("*")) == before


def test_a_block_beyond_memory_needs_the_stored_index(
    run: Run, scope: Scope, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(run.store, tmp_path / "pairs.kv")
    copy = kvtool.open(tmp_path / "pairs.kv").run()
    viewer = Viewer(runs_by_name([(tmp_path / "pairs.kv", copy)]))
    in_memory = ask(viewer, "nearest", **scope, **BLOCK, token="7", k="9")["rows"]
    monkeypatch.setattr(nearest, "MOST_BYTES", 100)
    with pytest.raises(KvtoolError, match="kvtool search"):
        viewer.answer("nearest", {**scope, **BLOCK, "token": "7"})
    kvtool.search(copy, scope["image"], (1, 1), layer=PLANTED[0], kv_head=PLANTED[1])
    stored = ask(viewer, "nearest", **scope, **BLOCK, token="7", k="9")["rows"]
    assert [row["score"] for row in stored] == pytest.approx([row["score"] for row in in_memory])


def test_a_picture_is_drawn_anew(viewer: Viewer, scope: Scope, run: Run) -> None:
    category, _, name = scope["image"].partition("/")
    with Image.open(Path(run.place or "") / f"JPEGImages/{category}/{name}.jpg") as image:
        pixels = np.asarray(image.convert("RGB"))
    assert (picture_of(viewer.answer("picture", scope).body) == pixels).all()
    small = picture_of(viewer.answer("picture", {**scope, "side": "40"}).body)
    assert small.shape == (30, 40, 3)
    piece = picture_of(viewer.answer("piece", {**scope, "box": "10,20,20,30"}).body)
    assert (piece[8::16, 8::16] == pixels[20:30, 10:20]).all()


@pytest.mark.parametrize("box", ["-50,-50,-10,-10", "79.5,59.5,900,900", "0,0,80,60"])
def test_a_piece_stays_inside_the_picture(viewer: Viewer, scope: Scope, box: str) -> None:
    assert picture_of(viewer.answer("piece", {**scope, "box": box}).body).size


@pytest.mark.parametrize(
    ("resource", "texts"),
    [
        ("nothing", {}),
        ("block", {**BLOCK, "layer": "99"}),
        ("block", {**BLOCK, "layer": "-1"}),
        ("block", {"kind": "value", "layer": "1,,2"}),
        ("block", {"kind": "value", "layer": "1,99"}),
        ("block", {"kind": "hidden", "layer": "1"}),
        ("block", {**BLOCK, "layer": "9" * 5000}),
        ("block", {**BLOCK, "kv_head": "7"}),
        ("block", {**BLOCK, "kind": "../value"}),
        ("block", {**BLOCK, "image": "../../etc/passwd"}),
        ("picture", {"image": "/etc/passwd"}),
        ("picture", {"run": "../pairs"}),
        ("picture", {"store": "/"}),
        ("piece", {"box": "0,0,nan,1"}),
        ("piece", {"box": "0,0,1"}),
        ("nearest", {**BLOCK, "token": "48"}),
        ("maps", {**BLOCK, "token": "48"}),
        ("maps", {"kind": "value", "layer": "99", "token": "0"}),
        ("nearest", {**BLOCK, "token": ""}),
        ("question", {"question": "x" * 5000}),
        ("question", {"question": "what is it"}),
    ],
)
def test_what_is_not_there_is_refused_in_one_line(
    viewer: Viewer, scope: Scope, resource: str, texts: Scope
) -> None:
    with pytest.raises(UsageError) as error:
        viewer.answer(resource, {**scope, **texts})
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_pictures_that_are_gone_are_said(run: Run, scope: Scope, tmp_path: Path) -> None:
    shutil.copytree(run.store, tmp_path / "pairs.kv")
    copy = kvtool.open(tmp_path / "pairs.kv").run()
    viewer = Viewer(runs_by_name([(tmp_path / "pairs.kv", copy)]), {"spair71k": tmp_path / "no"})
    for resource, texts in (("picture", {}), ("piece", {"box": "0,0,9,9"})):
        note = json.loads(viewer.answer(resource, {**scope, **texts}).body)["note"]
        assert str(tmp_path / "no") in note
    assert ask(viewer, "pairs", **scope)["pairs"] == []
    assert viewer.answer("block", {**scope, **BLOCK}).body


def test_two_stores_of_one_name(run: Run, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    runs = runs_by_name([(tmp_path / "a/x.kv", run), (tmp_path / "b/x.kv", run)])
    assert [store for store, _ in runs] == ["x.kv", "x.kv~2"]
    catalog = ask(Viewer(runs), "catalog")
    assert [entry["store"] for entry in catalog["runs"]] == ["x.kv", "x.kv~2"]


def test_videos_are_the_sequences_of_the_run(tmp_path: Path) -> None:
    run = davis.make_run(tmp_path, frames=davis.FRAMES + 1)
    viewer = Viewer(runs_by_name([(Path(run.store), run)]))
    record = ask(viewer, "videos", store="store", run=run.name)
    # Of the second sequence the run holds one frame, which is no video.
    assert [video["video"] for video in record["videos"]] == ["one"]
    assert record["videos"][0]["frames"] == run.ids[: davis.FRAMES]


def test_frames_in_one_context_are_read_by_frame(tmp_path: Path) -> None:
    labels = davis.write_davis(tmp_path / "data")
    run = write_videos(tmp_path / "v.kv", tmp_path / "data", labels, noise(3))
    viewer = Viewer(runs_by_name([(tmp_path / "v.kv", run)]))
    scope = {"store": "v.kv", "run": run.name, "image": "two/00003"}
    assert ask(viewer, "run", **scope)["images"] == list(labels)
    assert [video["video"] for video in ask(viewer, "videos", **scope)["videos"]] == ["one", "two"]
    reply = viewer.answer("block", {**scope, "kind": "value", "layer": "2", "kv_head": "0"})
    assert reply.body == run.read("value", 2, 0, ["two"], raw=True, frame=3).values.tobytes()
    assert picture_of(viewer.answer("picture", scope).body).shape == (*davis.GRID, 3)
    with pytest.raises(UsageError, match="videos"):
        viewer.answer("nearest", {**scope, **BLOCK, "token": "0"})


def test_features_are_those_of_the_kept_result(run: Run, scope: Scope, tmp_path: Path) -> None:
    shutil.copytree(run.store, tmp_path / "pairs.kv")
    store = kvtool.open(tmp_path / "pairs.kv")
    items = [
        {**item, "image": scope["image"], "feature": number}
        for number, item in enumerate(sae_results.items(2))
    ]
    result = sae_results.sae_result()
    config = {"run_hash": run.config.hash}
    store.save_result("sae", {**result.to_json(), "items": items, "config": config})
    viewer = Viewer(runs_by_name([(tmp_path / "pairs.kv", store.run())]))
    record = ask(viewer, "features", **scope)
    assert record["images"] == [scope["image"]]
    assert [item["feature"] for item in record["features"]] == list(range(len(items)))
    assert ask(viewer, "features", **{**scope, "image": run.ids[0]})["features"] == []
