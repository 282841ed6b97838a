"""What runs and parts record of themselves."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest

from kvtool.store import Choice, RunConfig, hash_json
from kvtool.store.run_arrays import token_offsets
from kvtool.store.sample_records import samples_from_json, samples_to_json
from tests.support.runs import GEOMETRY, config, ragged, sample

CHANGED: dict[str, Any] = {
    "model": replace(config().model, revision="def"),
    "dataset": "coco",
    "split": "val",
    "prefix": "correct",
    "view": "full",
    "keys": "pre-rope",
    "kinds": ("key",),
    "layers": (1,),
    "vision_layers": (0, 1),
    "codec": "none",
    **{"vision_norm": "layernorm", "image_size": "384", "min_pixels": 64, "max_pixels": 640},
    "system": "be brief",
}
LATER = ("vision_norm", "image_size", "min_pixels", "max_pixels", "system", "beside")
"""Fields that runs of older stores lack."""


def test_a_configuration_survives_json() -> None:
    assert RunConfig.from_json(json.loads(json.dumps(config().to_json()))) == config()


@pytest.mark.parametrize("field", CHANGED)
def test_every_field_of_the_identity_changes_the_hash_and_is_named(field: str) -> None:
    variant = config(**{field: CHANGED[field]})
    assert variant.hash != config().hash
    assert [
        difference.split(":")[0].split()[0] for difference in config().differences(variant)
    ] == [field]


def test_name_place_of_the_data_and_size_of_parts_are_no_identity() -> None:
    assert {field.name for field in fields(RunConfig)} == {
        *CHANGED,
        "name",
        "dataset_path",
        "part_size",
        "defaults",
        "beside",
    }
    variant = config(
        name="other",
        dataset_path="/elsewhere",
        part_size=8,
        defaults=Choice(("key",), (0,), (0,)),
        beside="tiny",
    )
    assert config(model=replace(config().model, name="elsewhere/tiny")).hash == config().hash
    assert variant.hash == config().hash
    assert config().differences(variant) == []


def test_runs_of_older_stores_keep_their_hash() -> None:
    """The hash of a record without the later fields, as it was made before there were any."""
    record = config().to_json()
    older = {name: value for name, value in record.items() if name not in LATER}
    assert RunConfig.from_json(json.loads(json.dumps(older))) == config()
    excluded = ("name", "dataset_path", "part_size", "defaults")
    identity = {name: value for name, value in older.items() if name not in excluded}
    # How weights are quantized is told beside the revision, which holds it.
    apart = ("name", "commit", "quantization")
    model = {name: older["model"][name] for name in older["model"] if name not in apart}
    assert hash_json({**identity, "model": model}) == config().hash


def test_a_run_without_a_name_gets_one_that_is_a_file_name() -> None:
    unnamed = config(name="", model=replace(config().model, name="/models/My Model/"))
    assert unnamed.run_name == f"My_Model-folder-data-{unnamed.hash[:8]}"
    assert config().run_name == "tiny"


@pytest.mark.parametrize(
    ("model", "word"),
    [
        ("lab/tiny@refs/pr/5", "tiny"),
        ("lab/tiny", "tiny"),
        ("demo@1", "demo_1"),
        ("/cache/hub/models--lab--tiny/snapshots/" + "0a" * 20, "tiny"),
        ("/models/a@b/tiny", "tiny"),
    ],
)
def test_the_model_in_a_runs_name(model: str, word: str) -> None:
    unnamed = config(name="", model=replace(config().model, name=model))
    assert unnamed.run_name == f"{word}-folder-data-{unnamed.hash[:8]}"


def test_heads_dims_and_layers_of_each_array() -> None:
    run = config()
    assert run.array_names() == ["key", "value", "projected", "vision", "text_key", "text_value"]
    assert [run.heads_and_dim(name) for name in run.array_names()] == [
        (2, 8),
        (2, 8),
        (1, 12),
        (1, 6),
        (2, 8),
        (2, 8),
    ]
    assert [run.stored_layers(name) for name in run.array_names()] == [
        (1, 3),
        (1, 3),
        (0,),
        (2,),
        (1, 3),
        (1, 3),
    ]
    assert config(kinds=("value",)).array_names() == ["value", "text_value"]
    assert GEOMETRY.hidden == 12


def test_samples_survive_json_with_shared_fields_written_once() -> None:
    samples = tuple(ragged(index) for index in range(9))
    record = json.loads(json.dumps(samples_to_json(samples)))
    assert samples_from_json(record, "here") == samples
    assert record["shared"]["prefix"] == samples[0].prefix
    assert all("prefix" not in sample for sample in record["each"])
    assert (
        samples_from_json(json.loads(json.dumps(samples_to_json(samples[:1]))), "here")
        == samples[:1]
    )


def test_offsets_count_each_arrays_own_tokens() -> None:
    samples = [
        sample(0, n_tokens=6, n_vision_tokens=4, n_prefix=3),
        sample(1, n_tokens=2, n_vision_tokens=9, n_prefix=1),
    ]
    assert token_offsets(samples, "value") == [0, 6, 8]
    assert token_offsets(samples, "vision") == [0, 4, 13]
    assert token_offsets(samples, "text_key") == [0, 3, 4]


def test_a_hash_depends_on_the_order_of_ids() -> None:
    assert (
        len({hash_json(["a", "b"]), hash_json(["b", "a"]), hash_json(["ab"]), hash_json([])}) == 4
    )
