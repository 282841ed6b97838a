"""What texts are compared with beside values: input embeddings, and the text towers of encoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kvtool
from kvtool.datasets.imagenet_s import ImageNetS
from kvtool.errors import KvtoolError, UsageError
from kvtool.result import Result
from kvtool.store import Run
from tests.support import tiny_encoders
from tests.support.fields import assert_documented
from tests.support.tasks import language

TASK = "semantic-segmentation"
NAMES = list(language.NAMES)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of a multimodal model, two encoders with texts and one without, over one data set."""
    folder = tmp_path_factory.mktemp("texts")
    language.imagenet(folder / "data", scale=8)
    # Words that the tiny tokenizers know: unknown ones would all be one text.
    lines = zip(language.CLASSES, ("red cat", "dog", "the blue image"), strict=True)
    words = "".join(f"{wnid}\t{name}\n" for wnid, name in lines)
    (folder / "data" / "words.txt").write_text(words)
    for build in ("llava_onevision", "siglip_of_two", "siglip2_of_two", "clip_of_two", "vit"):
        model = tiny_encoders.built(build, folder / build)
        kvtool.extract(
            folder / "s.kv",
            model=str(model),
            dataset=f"imagenet-s:{folder / 'data'}",
            dtype="float32",
            run=build,
        )
    return folder / "s.kv"


def probe(run: Run, **options: Any) -> Result:
    return kvtool.probe(run, TASK, device="cpu", **options)


def slow_score(run: Run, array: str) -> float:
    """miou_fgbg of `projected`, pixel by pixel from the stored vectors, in float64."""
    root = run.place
    assert root is not None
    dataset = ImageNetS(Path(root))
    block, images = run.read("projected", 0)
    texts = run.texts().values(0, 0, array=array).astype(np.float64)
    order = [run.texts().names(array).index(text) for text in dataset.class_texts()]
    counts = np.zeros((2, 2))
    for image in images:
        tokens = block[image.start : image.stop].astype(np.float64)
        scores = texts[order] @ tokens.T
        scores -= scores.mean(0)
        span = image.sample.base("projected")
        ids = dataset.label_map(image.id)
        number = dataset.class_id(image.id) - 1
        grid = scores[number][span.token_indices()].reshape(span.grid)
        # The cut is that of the tokens, the map that of the pixels the grid covers.
        truth, seen = ids == number + 1, ids != 1000
        predicted = stretched(grid, span.cover_xyxy_px, ids.shape) > grid.mean()
        for side in (0, 1):
            ours, theirs = (predicted == side) & seen, (truth == side) & seen
            counts[side] += [(ours & theirs).sum(), (ours | theirs).sum()]
    return float((counts[:, 0] / counts[:, 1]).mean())


def stretched(grid: Any, cover: tuple[float, float, float, float], shape: Any) -> Any:
    """A grid over its rectangle of an image as a map of all pixels, bilinear, held at the edge."""
    rows, cols = grid.shape
    x = (np.arange(shape[1]) + 0.5 - cover[0]) / (cover[2] - cover[0]) * cols - 0.5
    y = (np.arange(shape[0]) + 0.5 - cover[1]) / (cover[3] - cover[1]) * rows - 0.5
    position = [np.clip(y, 0, rows - 1), np.clip(x, 0, cols - 1)]
    low = [np.floor(axis).astype(int) for axis in position]
    high = [np.minimum(low[0] + 1, rows - 1), np.minimum(low[1] + 1, cols - 1)]
    part_y, part_x = (position[0] - low[0])[:, None], (position[1] - low[1])[None]
    top = grid[np.ix_(low[0], low[1])] * (1 - part_x) + grid[np.ix_(low[0], high[1])] * part_x
    bottom = grid[np.ix_(high[0], low[1])] * (1 - part_x) + grid[np.ix_(high[0], high[1])] * part_x
    return top * (1 - part_y) + bottom * part_y


@pytest.mark.parametrize(
    ("name", "text_vector", "array"),
    [
        ("llava_onevision", "last", "projected"),
        ("llava_onevision", "mean", "projected_mean"),
        ("siglip_of_two", "last", "projected"),
        ("siglip2_of_two", "last", "projected"),
        ("clip_of_two", "mean", "projected"),
    ],
)
@pytest.mark.slow
def test_projected_is_scored_against_texts(
    store: Path, name: str, text_vector: str, array: str
) -> None:
    run = kvtool.open(store).run(name)
    result = probe(run, kinds=["projected"], text_vector=text_vector)
    row = next(row for row in result.rows if "category" not in row)
    assert row["miou_fgbg"] == pytest.approx(slow_score(run, array), abs=5e-3)
    assert result.config["text_vector"] == text_vector
    assert_documented(result.to_json())


@pytest.mark.slow
def test_all_rows_of_the_table_come_by_one_command(store: Path) -> None:
    result = probe(kvtool.open(store).run("llava_onevision"), layers=[1])
    assert {row["kind"] for row in result.rows} == {"value", "projected"}
    baselines = {(row["run"], row["kind"]) for row in result.baselines}
    assert baselines == {
        ("llava_onevision", "projected"),
        ("siglip_of_two", "projected"),
        ("siglip2_of_two", "projected"),
        ("clip_of_two", "projected"),
    }
    assert any(
        "run vit is no baseline: its model (vit) has no text tower" in line
        for line in result.skipped
    ), result.skipped


@pytest.mark.slow
def test_an_encoder_without_a_text_side_says_so(store: Path) -> None:
    with pytest.raises(UsageError, match="stored: vision; vit has no text tower here"):
        probe(kvtool.open(store).run("vit"))
    with pytest.raises(UsageError, match="vision is without text vectors"):
        probe(kvtool.open(store).run("llava_onevision"), kinds=["vision"])


@pytest.mark.slow
def test_another_template_is_another_result(store: Path) -> None:
    run = kvtool.open(store).run("llava_onevision")
    with pytest.raises(KvtoolError, match=r"in the text template 'the \{\}': .*stored: '\{\}'"):
        probe(run, text_template="the {}", layers=[1])
    kvtool.extract(
        store,
        model=run.config.model.name,
        dataset=f"imagenet-s:{run.place}",
        dtype="float32",
        run="llava_onevision",
        text_template="alone:{}",
    )
    bare = probe(run, text_template="alone:{}", layers=[1])
    turn = probe(run, layers=[1])
    assert bare.config["text_template"] == "alone:{}"
    assert bare.rows != turn.rows
    # The input embedding of a word is the same wherever it stands.
    assert bare.baselines[0] == turn.baselines[0]


@pytest.mark.slow
def test_texts_of_values_alone_leave_projected_out(tmp_path: Path) -> None:
    run = language.imagenet_run(tmp_path)
    language.commit_texts(run, NAMES)
    result = probe(run)
    assert {row["kind"] for row in result.rows} == {"value"}
    assert "projected is left out, for no vectors of texts are stored" in result.skipped[-1]
