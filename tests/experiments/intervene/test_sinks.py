"""A planted sink: whose heads it is in is known from attend, and redistribute moves its mass."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import kvtool
from kvtool.asking.head_sources import HeadSource
from kvtool.engine.run_model import load_run_model
from kvtool.errors import UsageError
from kvtool.features.attention_maps import count_sinks
from kvtool.models.attention import Act, AttentionCall, acting
from kvtool.models.intervention import Intervened
from kvtool.models.methods import Intervention, parse_methods
from kvtool.store import Run
from tests.support import tiny
from tests.support.attention import FINDER, QUESTION, SINK, SINK_KEY, looking_run
from tests.support.concepts import HALVES, cats_and_dogs

N_IMAGES = 6
WHOLE_CELLS = (0, 0, 30, 64)
"""The left half of pictures, as far as whole cells of the grid lie in it."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("looking")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(HALVES, "left", WHOLE_CELLS)
        data = cats_and_dogs(root / "coco", N_IMAGES)
    return looking_run(root / "study.kv", tiny.llava_onevision(root / "model"), data)


@pytest.fixture(scope="module")
def maps(run: Run) -> dict[str, np.ndarray[Any, Any]]:
    """Attention of the last token in the layer of the sink, before and after redistribute:0.75,
    (q_head, key).
    """
    model: Any = load_run_model(run, None, "cpu", dtype="float32")
    sample = run.samples[0]
    (method,) = parse_methods("redistribute:0.75")
    change = Intervention(method, frozenset({SINK_KEY}))
    intervened = Intervened(model, sample, change, count_sinks(sample.n_tokens))
    seen: dict[str, np.ndarray[Any, Any]] = {}

    def watched(act: Act) -> Act:
        def see(call: AttentionCall) -> torch.Tensor | None:
            mask = act(call)
            last = torch.tensor([[call.queries.shape[2] - 1]])
            for name, attended in (("before", call), ("after", replace(call, mask=mask))):
                seen[name] = attended.weights(last)[0, :, 0].numpy()
            return mask

        return see

    acts = {layer: watched(act) for layer, act in intervened._acts().items()}
    cache = model.restore([sample], [run.read_image(sample.id)], run.config.keys)
    with acting(model, acts):
        model.logits(cache, [sample], model.question(QUESTION), last=True)
    return seen


@pytest.mark.slow
def test_the_mass_of_a_planted_sink_goes_to_the_other_tokens(
    run: Run, maps: dict[str, np.ndarray[Any, Any]]
) -> None:
    sample = run.samples[0]
    sink = sample.image_start + sample.base().token_indices()[SINK]
    # With the newline that stands after a base view, as in transformers' prompt.
    image = slice(sample.image_start, sample.image_start + sample.n_tokens + 1)
    before, after = maps["before"], maps["after"]
    for q_head in range(4):
        if q_head // 2 != SINK_KEY[1]:
            np.testing.assert_array_equal(before[q_head], after[q_head])
            continue
        assert before[q_head, sink] > 0.95 * before[q_head, image].sum()
        assert after[q_head, sink] == pytest.approx(before[q_head, sink] / 4, rel=1e-4)
        # All that the image draws stays, and the others gain in proportion.
        assert after[q_head].sum() == pytest.approx(1, abs=1e-5)
        assert after[q_head, image].sum() == pytest.approx(before[q_head, image].sum(), rel=1e-3)
        strangers = np.delete(np.arange(image.start, image.stop), sink - image.start)
        gains = after[q_head, strangers] / before[q_head, strangers]
        assert gains.min() > 2
        np.testing.assert_allclose(gains, gains[0], rtol=1e-3)


def heads_of(run: Run, source: str) -> tuple[set[tuple[int, int]], list[str]]:
    heads, notes = HeadSource.parse(source, None).of(run)
    return set(heads.selected), notes


@pytest.mark.slow
def test_what_has_to_be_kept_is_said(run: Run, tmp_path: Path) -> None:
    path, data = tmp_path / "study.kv", f"coco:{run.place}"
    kvtool.extract(path, model=run.config.model.name, dataset=data, limit=1)
    bare_run = kvtool.open(path).run()
    commands = {
        "sinks": "attend .*study.kv --sinks",
        "localization:1": "attend .*study.kv --expressions",
        "best:co-segmentation:2": "probe .*study.kv co-segmentation",
    }
    for source, command in commands.items():
        match = f"heads {source}: .*found none; run first: kvtool {command}"
        with pytest.raises(UsageError, match=match):
            heads_of(bare_run, source)


@pytest.mark.slow
def test_heads_of_attend(run: Run) -> None:
    kvtool.attend(run, sinks=True, question=QUESTION)
    heads, notes = heads_of(run, "sinks:1")
    assert heads == {SINK_KEY}
    (note,) = notes
    assert note.startswith("heads sinks:1: as kvtool attend ranked them over ")
    assert f" pictures of run {run.name}" in note
    kvtool.attend(run, question=QUESTION, localization=4)
    localized, _ = heads_of(run, "localization:2")
    assert len(localized) == 2
    with pytest.raises(UsageError, match="heads sinks:99: expected 99 heads or more, found 6"):
        heads_of(run, "sinks:99")
    with pytest.raises(UsageError, match="heads sinks:0: expected 1 head or more, found 0"):
        heads_of(run, "sinks:0")
    assert FINDER[0] in {layer for layer, _ in heads_of(run, "sinks:6")[0]}


@pytest.mark.slow
def test_heads_of_a_probe(run: Run) -> None:
    """The largest probe, whenever it was kept: its best blocks first; heads stand once."""
    from kvtool.result import result_key
    from tests.support.result_rows import about, block

    store = kvtool.open(run.store)
    scores = [
        ("key", 0, 0, 0.2),
        ("value", 2, 1, 0.9),
        ("key", 2, 1, 0.8),
        ("value", 1, 1, 0.7),
        ("projected", 0, 0, 0.95),
    ]
    rows = [block(kind, layer, head, "miou", score) for kind, layer, head, score in scores]
    for number, members in enumerate((rows[:1], rows, rows[3:4])):
        result = about(
            "probe", "miou", list(members), task="co-segmentation", config={"number": number}
        )
        config = result.config | {"run": run.name, "run_hash": run.config.hash}
        record = replace(result, config=config).to_json()
        store.save_result(result_key(["probe", number]), json.loads(json.dumps(record)))
    assert heads_of(run, "best:co-segmentation:2")[0] == {(2, 1), (1, 1)}
    assert heads_of(run, "best:co-segmentation")[0] == {(2, 1), (1, 1), (0, 0)}
    with pytest.raises(UsageError, match="unknown name 'cosegmentation'"):
        HeadSource.parse("best:cosegmentation", None)
