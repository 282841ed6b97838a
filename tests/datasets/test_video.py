"""Videos as a data set: what counts as one, which frames are taken, what is left out."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvtool.datasets import Spec, open_dataset, parse_spec
from kvtool.datasets.clips import digest_refs, load_clip, refs_of
from kvtool.datasets.records import VideoRef
from kvtool.datasets.sampling import Sampling
from kvtool.errors import DatasetError, ImageError, UsageError
from tests.support.datasets import davis, picture
from tests.support.datasets.own_data import own_videos


def frames(folder: Path, names: list[str], size: tuple[int, int] = (32, 24)) -> Path:
    for seed, name in enumerate(names):
        picture(folder / name, *size, seed)
    return folder


def clip_of(spec: str) -> VideoRef:
    (clip,) = refs_of(open_dataset(spec), "video")
    assert isinstance(clip, VideoRef)
    return clip


def test_a_folder_of_frames_is_a_video_with_numbers_in_order(tmp_path: Path) -> None:
    frames(tmp_path / "birds", ["frame10.png", "frame2.png", "Frame1.png"])
    clip = clip_of(f"video:{tmp_path / 'birds'}")
    assert clip.id == "birds"
    assert [ref.id for ref in clip.frames] == ["birds/Frame1", "birds/frame2", "birds/frame10"]
    assert clip.seconds == (0.0, 1 / 24, 2 / 24)
    assert clip.frame_rate == 24


def test_folders_of_frames_are_videos_and_others_are_left_out(tmp_path: Path) -> None:
    for name in ("b", "a10", "a9"):
        frames(tmp_path / name, ["0.png", "1.png"])
    frames(tmp_path / "single", ["0.png"])
    (tmp_path / "empty").mkdir()
    frames(tmp_path / ".hidden", ["0.png", "1.png"])
    (tmp_path / "notes.txt").write_text("no video")
    dataset = open_dataset(f"video:{tmp_path}")
    assert [ref.id for ref in refs_of(dataset, "video")] == ["a9", "a10", "b"]
    assert [ref.id for ref in dataset.images()][:3] == ["a9/0", "a9/1", "a10/0"]
    assert [line.split(": expected ")[1] for line in dataset.unread] == [
        "two frames or more, found 0; take folder:PATH for single pictures",
        "two frames or more, found 1; take folder:PATH for single pictures",
    ]
    with pytest.raises(DatasetError, match=r"video: .*single: expected frames, .* found 1; take"):
        open_dataset(f"video:{tmp_path / 'single'}")


def test_videos_of_one_name_are_refused_in_one_line(tmp_path: Path) -> None:
    root = tmp_path / "links"
    root.mkdir()
    for seed, name in enumerate(("x", "y")):
        picture(tmp_path / name / "frames" / "0.png", seed=seed)
        picture(tmp_path / name / "frames" / "1.png", seed=seed)
        (root / f"to_{name}").symlink_to(tmp_path / name / "frames")
    with pytest.raises(DatasetError) as caught:
        open_dataset(f"video:{root}")
    assert str(caught.value) == (
        f"video: {root}: expected videos of different names, found {root / 'to_x'} and "
        f"{root / 'to_y'}, both named frames; rename a folder, of a link the one it leads to"
    )
    # One of them alone has the name that it always had.
    (root / "to_y").unlink()
    assert clip_of(f"video:{root}").id == "frames"
    # A folder of frames with a video of its name below it.
    frames(tmp_path / "v", ["0.png", "1.png"])
    frames(tmp_path / "v" / "v", ["0.png", "1.png"])
    with pytest.raises(DatasetError, match=r"found .*/v and .*/v/v, both named v; rename"):
        open_dataset(f"video:{tmp_path / 'v'}")


@pytest.mark.parametrize(
    ("sampling", "indices", "rate"),
    [
        ("", range(10), 24),
        ("frames=4", (0, 3, 6, 9), 4 / 10 * 24),
        ("rate=5,fps=2", (0, 3, 6, 9), 4 / 10 * 5),
        ("fps=24,frames=3", (0, 4, 9), 3 / 10 * 24),
        ("fps=0.5", (0, 3, 6, 9), 4 / 10 * 24),
        ("frames=99", range(10), 24),
    ],
)
def test_the_frames_that_are_taken(
    tmp_path: Path, sampling: str, indices: Any, rate: float
) -> None:
    frames(tmp_path / "v", [f"{number}.png" for number in range(10)])
    clip = clip_of(f"video:{tmp_path / 'v'}{'@' if sampling else ''}{sampling}")
    own_rate = 5 if "rate" in sampling else 24
    assert [ref.id for ref in clip.frames] == [f"v/{index}" for index in indices]
    assert clip.seconds == tuple(index / own_rate for index in indices)
    assert clip.frame_rate == pytest.approx(rate)


def test_frames_are_spread_as_transformers_spreads_them() -> None:
    """By its own function, which needs no torchvision."""
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor
    from transformers.video_utils import VideoMetadata

    processor: Any = Qwen3VLVideoProcessor
    for total, rate, fps in ((97, 24, 2.0), (30, 25, 7.5), (9, 30, 1.0), (5, 24, 24.0)):
        metadata = VideoMetadata(total, fps=rate)
        expected = processor.sample_frames(processor(), metadata, fps=fps)
        assert Sampling(fps=fps).indices(total, rate) == list(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video:/v@fps=0", "found 'fps=0'"),
        ("video:/v@fps=nan", "found 'fps=nan'"),
        ("video:/v@fps=2,fps=3", "found 'fps=3'"),
        ("video:/v@frames=1", "whole number from 2 on, found 1"),
        ("video:/v@frames=2.5", "whole number from 2 on, found 2.5"),
        ("video", "write video:PATH"),
    ],
)
def test_a_sampling_that_is_none_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_dataset(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_spec_is_written_in_one_way(tmp_path: Path) -> None:
    assert parse_spec("video:/v@frames=8,fps=2") == Spec("video", "/v", "fps=2,frames=8")
    assert parse_spec("video:/me@lab/v") == Spec("video", "/me@lab/v", None)
    frames(tmp_path / "v", ["0.png", "1.png"])
    assert open_dataset(f"video:{tmp_path / 'v'}@frames=8.0").split == "frames=8"


def test_a_video_with_a_frame_that_cannot_be_used_cannot_be_loaded(tmp_path: Path) -> None:
    frames(tmp_path / "v", ["0.png", "1.png", "2.png"])
    clip = clip_of(f"video:{tmp_path / 'v'}")
    assert [image.size for image in load_clip(clip).pictures] == [(32, 24)] * 3
    picture(tmp_path / "v" / "1.png", 30, 24)
    with pytest.raises(ImageError, match=r"one size, 32 x 24 px .*, found v/1 of 30 x 24 px"):
        load_clip(clip)
    (tmp_path / "v" / "1.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"v/1\.png: "):
        load_clip(clip)


def test_more_frames_than_a_model_is_given_are_refused(tmp_path: Path) -> None:
    picture(tmp_path / "v" / "0.png")
    for number in range(1, 769):
        os.link(tmp_path / "v" / "0.png", tmp_path / "v" / f"{number}.png")
    with pytest.raises(DatasetError, match=r"at most 768 frames, found 769; take fewer, e.g. @fps"):
        open_dataset(f"video:{tmp_path / 'v'}")
    assert len(clip_of(f"video:{tmp_path / 'v'}@frames=5").frames) == 5


def test_a_videos_digest_is_that_of_its_frames(tmp_path: Path) -> None:
    frames(tmp_path / "v", ["0.png", "1.png", "2.png"])
    spec = f"video:{tmp_path / 'v'}"
    first = digest_refs([clip_of(spec)])
    assert first == {"v": load_clip(clip_of(spec)).digest}
    (tmp_path / "v" / "0.png").rename(tmp_path / "v" / "3.png")
    moved = digest_refs([clip_of(spec)])
    picture(tmp_path / "v" / "3.png", seed=9)
    changed = digest_refs([clip_of(spec)])
    assert len({first["v"], moved["v"], changed["v"]}) == 3
    before = clip_of(spec)
    (tmp_path / "v" / "3.png").unlink()
    assert digest_refs([before]) == {"v": ""}


def test_data_sets_with_videos_have_them_as_clips(tmp_path: Path) -> None:
    davis(tmp_path / "davis")
    own_videos(tmp_path / "own")
    for name in ("davis", "own"):
        dataset = open_dataset(f"{name}:{tmp_path / name}")
        clips = [ref for ref in refs_of(dataset, "video") if isinstance(ref, VideoRef)]
        ids = [frame.id for clip in clips for frame in clip.frames]
        assert set(ids) <= {ref.id for ref in dataset.images()}
        assert all(frame.id.startswith(f"{clip.id}/") for clip in clips for frame in clip.frames)
    picture(tmp_path / "pictures" / "a.png")
    with pytest.raises(UsageError, match=r"--view video: .* found folder; .* write video:PATH"):
        refs_of(open_dataset(f"folder:{tmp_path / 'pictures'}"), "video")


# Video files.


def test_without_the_library_a_video_file_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("kvtool.datasets.video_files.import_module", absent)
    (tmp_path / "clip.mp4").write_bytes(b"video")
    frames(tmp_path / "v", ["0.png", "1.png"])
    dataset = open_dataset(f"video:{tmp_path}")
    assert [ref.id for ref in refs_of(dataset, "video")] == ["v"]
    assert dataset.unread[0].endswith(
        'found it missing; pip install "kvtool[video]", or give a folder of frames'
    )
    with pytest.raises(DatasetError, match=r"clip\.mp4: expected PyAV, which reads video files"):
        open_dataset(f"video:{tmp_path / 'clip.mp4'}")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Eight frames of rising gray at 4 a second, without loss."""
    pytest.importorskip("av")
    av: Any = import_module("av")
    path = tmp_path / "files" / "clip.mkv"
    path.parent.mkdir()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=4)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "bgr0"
        for level in range(8):
            pixels = np.full((24, 32, 3), 30 * level, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_a_video_file_is_decoded(file: Path) -> None:
    clip = load_clip(clip_of(f"video:{file.parent}@frames=3"))
    assert [image.getpixel((5, 5)) for image in clip.pictures] == [
        (level, level, level) for level in (0, 120, 210)
    ]
    assert [(frame.id, frame.second) for frame in clip.frames] == [
        ("clip.mkv/00000", 0.0),
        ("clip.mkv/00004", 1.0),
        ("clip.mkv/00007", 1.75),
    ]
    assert clip.frame_rate == 3 / 8 * 4
    assert digest_refs([clip_of(f"video:{file}")]) == {"clip.mkv": clip.digest}


def test_a_broken_video_file_is_one_line(file: Path) -> None:
    clip = clip_of(f"video:{file}")
    data = file.read_bytes()
    for broken in (b"", b"no video", data[: len(data) // 2], data[:200] + bytes(len(data) - 200)):
        file.write_bytes(broken)
        with pytest.raises(ImageError) as caught:
            load_clip(clip)
        assert "clip.mkv" in str(caught.value)
        assert "\n" not in str(caught.value)
