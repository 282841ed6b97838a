"""Extraction over videos: a sample a video, its frames' digests, what is left out, and what a run
goes on with.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kvtool
from kvtool.datasets import open_dataset
from kvtool.datasets.clips import digest_refs, refs_of
from kvtool.datasets.images import load_image
from kvtool.datasets.records import ImageRef
from kvtool.demo.layouts import write_scenes
from kvtool.digests import digest_file
from kvtool.errors import ChangedError, ModelError, UsageError
from kvtool.models import load_model
from kvtool.models.families.qwen3_vl import Qwen3VL
from tests.support import tiny
from tests.support.datasets import picture
from tests.support.shell import Shell


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    names = ("qwen2_5_vl", "qwen3_vl", "llava_onevision")
    return {name: str(getattr(tiny, name)(folder / name)) for name in names}


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Two videos of five and four frames, and three that cannot be used."""
    folder = tmp_path / "clips"
    for name, count in (("a", 5), ("b", 4), ("broken", 3), ("unlike", 2), ("single", 1)):
        for number in range(count):
            size = (40 + 8 * (name == "unlike" and number == 1), 32)
            picture(folder / name / f"{number}.png", *size, seed=number + len(name))
    (folder / "broken" / "1.png").write_bytes(b"no picture")
    return folder


def options(model: str, clips: Path) -> dict[str, Any]:
    dataset = f"video:{clips}@rate=4"
    return {"model": model, "dataset": dataset, "dtype": "float32", "devices": ("cpu",)}


@pytest.mark.slow
def test_a_video_is_a_sample_and_bad_ones_are_left_out(
    tmp_path: Path, models: dict[str, str], clips: Path
) -> None:
    store = tmp_path / "s.kv"
    report = kvtool.extract(store, **options(models["qwen2_5_vl"], clips))
    assert (report.n_images, report.n_done) == (4, 2)
    reasons = [failure.reason for failure in report.failed.values()]
    assert "broken/1.png: " in reasons[0]
    assert "expected frames of one size, 40 x 32 px as the first, found unlike/1" in reasons[1]
    assert len(report.left_out) == 1
    assert "single: expected two frames or more, found 1" in report.left_out[0]
    run = kvtool.open(store).run()
    assert (run.ids, run.config.view, run.config.split) == (["a", "b"], "video", "rate=4")
    sample = run["a"].sample
    assert [(frame.id, frame.second) for frame in sample.frames] == [
        (f"a/{number}", number / 4) for number in range(5)
    ]
    assert sample.frame_rate == 4
    for number, frame in enumerate(sample.frames):
        path = clips / "a" / f"{number}.png"
        assert (frame.digest, frame.stamp[0]) == (digest_file(path), path.stat().st_size)
    assert sample.digest == digest_refs(refs_of(open_dataset(f"video:{clips}"), "video"))["a"]
    # As the model gives it alone.
    model: Any = load_model(models["qwen2_5_vl"], dtype="float32")
    frames = [load_image(ImageRef(f.id, clips / f"{f.id}.png")) for f in sample.frames]
    item = model.prepare_video(frames, sample.frames, 4.0, id="a", index=0)
    captured = model.capture([item], model.request(("value",), None))
    np.testing.assert_array_equal(
        run.read("value", 1, 1, ["a"]).values, captured.arrays["value"][0][1, 1]
    )


@pytest.mark.slow
def test_a_run_goes_on_with_its_own_videos(
    tmp_path: Path, models: dict[str, str], clips: Path
) -> None:
    for name in ("broken", "unlike", "single"):
        shutil.rmtree(clips / name)
    store, arguments = tmp_path / "s.kv", options(models["qwen2_5_vl"], clips)
    run = kvtool.extract(store, limit=1, **arguments).run
    assert kvtool.extract(store, **arguments).n_before == 1
    clips.rename(tmp_path / "moved")
    moved = options(models["qwen2_5_vl"], tmp_path / "moved")
    report = kvtool.extract(store, **moved)
    assert (report.run, report.n_before, report.n_done) == (run, 2, 0)
    # A frame more is another video.
    picture(tmp_path / "moved" / "b" / "4.png", 40, 32)
    with pytest.raises(ChangedError, match=r"found that 1 picture changed \(b\) since"):
        kvtool.extract(store, **moved)
    report = kvtool.extract(store, changed="replace", **moved)
    assert report.run == run
    assert len(kvtool.open(store).run(run)["b"].sample.frames) == 5
    # Another choice of frames is another run, as another split is.
    fewer = {**moved, "dataset": f"video:{tmp_path / 'moved'}@rate=4,frames=2"}
    assert kvtool.extract(store, **fewer).run != run
    assert len(kvtool.open(store).runs()) == 2


@pytest.mark.slow
def test_a_prefix_takes_the_towers_output_from_a_run_that_has_it(
    tmp_path: Path, models: dict[str, str], clips: Path
) -> None:
    """But where DeepStack needs the tower."""
    for name in ("b", "broken", "unlike", "single"):
        shutil.rmtree(clips / name)
    for model, n_reused in (("qwen2_5_vl", 1), ("qwen3_vl", 0)):
        arguments = {**options(models[model], clips), "kinds": ("value", "projected")}
        store = tmp_path / f"{model}.kv"
        kvtool.extract(store, **arguments)
        report = kvtool.extract(store, prefix="text:red cat", **arguments)
        assert report.n_reused == n_reused
        reused = kvtool.open(store).run(report.run)
        fresh = kvtool.extract(store, prefix="text:red cat", reuse=False, run="fresh", **arguments)
        again = kvtool.open(store).run(fresh.run)
        assert reused["a"].sample.image_start == again["a"].sample.image_start
        for layer in range(3):
            np.testing.assert_allclose(
                reused.read("value", layer, 0).values,
                again.read("value", layer, 0).values,
                rtol=0,
                atol=1e-6,
            )


def test_what_cannot_be_given_is_refused_in_one_line(
    tmp_path: Path, models: dict[str, str], clips: Path
) -> None:
    store = tmp_path / "s.kv"
    with pytest.raises(
        UsageError, match=r"a model that is given videos, .* of family llava_onevision; t"
    ):
        kvtool.extract(store, **options(models["llava_onevision"], clips))
    with pytest.raises(UsageError, match=r"--view full: expected video over video, whose frames"):
        kvtool.extract(store, view="full", **options(models["qwen3_vl"], clips))
    pictures = {**options(models["qwen3_vl"], clips), "dataset": f"folder:{clips / 'a'}"}
    with pytest.raises(
        UsageError, match=r"--view video: expected a data set of videos, found fold"
    ):
        kvtool.extract(store, view="video", **pictures)


@pytest.mark.slow
def test_a_model_is_proven_on_the_first_frames(
    tmp_path: Path, models: dict[str, str], clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Qwen3VL._frame_spans

    def reversed_spans(self: Any, *values: Any) -> Any:
        spans = right(self, *values)
        reversed_frames = [span.frames for span in spans[::-1]]
        return tuple(replace(s, frames=f) for s, f in zip(spans, reversed_frames, strict=True))

    monkeypatch.setattr(Qwen3VL, "_frame_spans", reversed_spans)
    with pytest.raises(ModelError, match=r"check of its pixel map to hold, found . of \d+ cells"):
        kvtool.extract(tmp_path / "s.kv", **options(models["qwen3_vl"], clips))


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl"])
@pytest.mark.slow
def test_scenes_of_davis_are_scored_in_one_context(
    tmp_path: Path, models: dict[str, str], name: str, shell: Shell
) -> None:
    root = tmp_path / "scenes"
    write_scenes(root, only=["davis"])
    store = tmp_path / "s.kv"
    arguments: list[Any] = ["extract", store, "--model", models[name], "--dtype", "float32"]
    arguments += ["--dataset", f"davis:{root / 'davis'}", "--limit", 1, "--kinds", "value"]
    code, _, errors = shell(*map(str, arguments), "--view", "video", "--max-pixels", "1536")
    assert (code, errors) == (0, [])
    run = kvtool.open(store).run()
    video = run.samples[0]
    assert (len(video.frames), video.frame_rate) == (14, 24)
    result = kvtool.probe(run, "temporal-correspondence", layers=[0], heads=[0])
    assert result.n == 2
    assert result.best is not None
    assert result.best["chance_kind"] == "first mask held still"
    assert 0 <= result.best["j_and_f"] <= 1
    out = tmp_path / "frames.png"
    for images, extra in ((video.id, []), (f"{video.id}/00003", ["--task", result.task])):
        code, _, errors = shell("show", str(store), "--image", images, "-o", str(out), *extra)
        assert code == 0
        assert out.stat().st_size > 1000
    code, printed, _ = shell("store", "runs", str(store))
    assert code == 0
    assert '"view": "video"' in printed
