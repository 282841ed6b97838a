"""Devices that hold one model: their names, how layers are spread over them, and that what is
computed is the same.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from kvtool.errors import KvtoolError, UsageError
from kvtool.models import load_model, networks
from kvtool.models.device_names import check_device, first_device, parse_devices, worker_devices
from kvtool.models.knockout import knocked_out
from kvtool.models.memory import network_bytes
from kvtool.models.placement import Blocks, blocks_of, decoder_layers, device_map, spread
from tests.support import tiny


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.llava_onevision(tmp_path_factory.mktemp("llava"))


@pytest.fixture
def room(llava: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Room for all but the layers, and for a number of these."""
    network: Any = load_model(str(llava), weights=False)
    blocks = parts_of(network)

    def set_room(n_layers: float) -> None:
        n_bytes = (blocks.trunk_bytes + n_layers * blocks.layer_bytes[0]) / 0.9 + 1
        monkeypatch.setattr(networks, "free_bytes", lambda _device: int(n_bytes))

    return set_room


def parts_of(model: Any) -> Blocks:
    layers = decoder_layers(model.net)
    assert layers is not None
    return blocks_of(model.net, layers, torch.float32)


def error(llava: Path, **options: Any) -> str:
    with pytest.raises(KvtoolError) as caught:
        load_model(str(llava), dtype="float32", **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_comma_separates_workers_and_a_plus_joins_devices_of_a_model() -> None:
    assert worker_devices("auto") == ("auto",)
    assert worker_devices("cuda:0+cuda:1,cuda:2") == ("cuda:0+cuda:1", "cuda:2")
    joined = parse_devices("cuda:0+cuda:1+cpu+disk:/tmp/a+b")
    assert (joined.names, joined.folder) == (("cuda:0", "cuda:1", "cpu"), "/tmp/a+b")
    assert joined.are_joined
    assert parse_devices("cpu+disk:x").are_joined
    assert not parse_devices("cuda:3").are_joined
    assert [first_device(name) for name in ("cuda:1+cpu", "cpu", "auto")] == [
        "cuda:1",
        "cpu",
        "auto",
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cpu+cuda:0", "GPUs before cpu"),
        ("cuda+cuda:0", "each device of a model once"),
        ("cpu+cpu", "each device of a model once"),
        ("disk:x", "disk:DIR after the devices of a model"),
        ("cpu+disk:", "disk:DIR after the devices of a model"),
        ("cpu+disk", "expected cpu, cuda or cuda:N"),
        ("cpu+", "expected cpu, cuda or cuda:N"),
        ("auto+cpu", "expected cpu, cuda or cuda:N"),
        ("mps", "Metal has no float64"),
        ("cpu+mps", "found 'mps'"),
    ],
)
def test_other_names_are_refused_in_one_line(name: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_device(name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_workers_of_no_device_are_refused() -> None:
    for devices in ("cpu,", "auto,cpu", "cpu,mps"):
        with pytest.raises(UsageError):
            worker_devices(devices)


def blocks(*layer_bytes: int, trunk: int = 0) -> Blocks:
    names = tuple(f"layers.{n}" for n in range(len(layer_bytes)))
    return Blocks(names, ("embed", "head"), layer_bytes, trunk)


def test_gpus_share_layers_in_proportion_to_their_room() -> None:
    eight = blocks(*[10] * 8)
    assert spread(eight, [100, 100], 2, False) == [0] * 4 + [1] * 4
    assert spread(eight, [50, 150], 2, False) == [0] * 2 + [1] * 6
    # What all the rest takes counts for the first.
    assert spread(blocks(*[10] * 8, trunk=20), [100, 100], 2, False) == [0] * 3 + [1] * 5
    assert spread(eight, [40, 40], 2, False) == [0] * 4 + [1] * 4
    assert spread(eight, [40, 39], 2, False) is None


def test_the_first_gpu_must_have_room_for_all_but_the_layers() -> None:
    ten = blocks(*[2000] * 10, trunk=3000)
    assert spread(ten, [1000, 80000], 2, False) is None
    assert spread(ten, [2999, 80000, 80000], 3, False) is None
    # Neither the host nor the disk takes them off it.
    assert spread(ten, [1000, 80000, 80000], 2, False) is None
    assert spread(ten, [1000, 80000, 80000], 2, True) is None
    assert spread(ten, [3000, 80000], 2, False) == [1] * 10


@pytest.mark.slow
def test_a_first_device_that_has_no_room_is_named(llava: Path, room: Any) -> None:
    pytest.importorskip("accelerate")
    room(-1)
    line = error(llava, device="cpu+disk:x")
    assert "on cpu, which holds all but the layers, found 0.00 GB free" in line


def test_what_gpus_have_no_room_for_goes_to_the_host_and_then_to_disk() -> None:
    eight = blocks(*[10] * 8, trunk=5)
    # Two layers that stand elsewhere visit a GPU: room for 65 holds the rest and four.
    assert spread(eight, [65, 1000], 1, False) == [0] * 4 + [1] * 4
    assert spread(eight, [65, 20], 1, True) == [0] * 4 + [1] * 2 + [2] * 2
    assert spread(eight, [65, 20], 1, False) is None
    assert spread(eight, [55], 0, True) == [0] * 3 + [1] * 5
    assert spread(eight, [85], 0, False) == [0] * 8
    assert spread(eight, [24], 0, True) is None
    assert spread(eight, [25], 0, True) == [1] * 8


def test_every_weight_has_a_device(llava: Path) -> None:
    model: Any = load_model(str(llava), weights=False)
    parts = parts_of(model)
    assert parts.trunk_bytes + sum(parts.layer_bytes) == network_bytes(model.net, torch.float32)
    device_names = device_map(parts, ["cuda:0", "cuda:1"], [0, 1, 2])
    for name, _ in model.net.named_parameters():
        holders = [part for part in device_names if name == part or name.startswith(f"{part}.")]
        assert len(holders) == 1
        number = name.partition("language_model.layers.")[2][:1]
        expected = ["cuda:0", "cuda:1", "disk"][int(number)] if number else "cuda:0"
        assert device_names[holders[0]] == expected


def results(model: Any) -> dict[str, Any]:
    """What commands compute: arrays of pictures, logits after a restored cache, an answer, and
    logits with heads knocked out.
    """
    batch = [model.prepare(tiny.noise(70, 45, n), id=str(n), index=n) for n in range(2)]
    samples = [item.sample for item in batch]
    captured = model.capture(batch, model.request(None, None))
    arrays = [
        {name: items[row] for name, items in captured.arrays.items()}
        | {f"text_{name}": items[row] for name, items in captured.text.items()}
        for row in range(2)
    ]
    cache = model.restore(samples, arrays)
    question = model.question("the cat")
    with knocked_out(model, samples, [(0, 0), (2, 1)]):
        knocked = model.logits(cache, samples, question)
    return {
        **{f"{name} {row}": array for row in range(2) for name, array in arrays[row].items()},
        "logits": model.logits(cache, samples, question).numpy(),
        "knocked out": knocked.numpy(),
        "answers": np.array(model.generate(cache, samples, question, 4), str),
        "prefill": model.logits(model.prefill(batch), samples, question).numpy(),
        "texts": model.text_values(["cat", "a dog"], [0, 2]),
    }


def assert_same(model: Any, expected: dict[str, Any]) -> None:
    computed = results(model)
    assert computed.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(computed[name], array, err_msg=name)


@pytest.mark.slow
def test_layers_on_disk_compute_the_same_bits(llava: Path, tmp_path: Path, room: Any) -> None:
    pytest.importorskip("accelerate")
    expected = results(load_model(str(llava), dtype="float32"))
    assert not np.array_equal(expected["logits"], expected["knocked out"])
    room(2)
    assert "name one device" not in error(llava)
    loaded: Any = load_model(str(llava), dtype="float32", device=f"cpu+disk:{tmp_path / 'd'}")
    on_disk = [next(layer.parameters()).is_meta for layer in loaded.language_model.layers]
    assert on_disk == [True, True, True]
    assert_same(loaded, expected)
    room(2.5 + 1)
    loaded = load_model(str(llava), dtype="float32", device=f"cpu+disk:{tmp_path / 'd'}")
    on_disk = [next(layer.parameters()).is_meta for layer in loaded.language_model.layers]
    assert on_disk == [False, True, True]
    assert_same(loaded, expected)


@pytest.mark.slow
def test_layers_read_one_by_one_compute_the_same_bits(llava: Path) -> None:
    pytest.importorskip("accelerate")
    expected = results(load_model(str(llava), dtype="float32"))
    assert_same(load_model(str(llava), dtype="float32", by_layer=True), expected)


@pytest.mark.slow
def test_pickled_weights_are_written_to_the_folder(llava: Path, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    folder = Path(shutil.copytree(llava, tmp_path / "model"))
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert "give a folder to write them to: --devices cpu+disk:DIR" in error(folder, by_layer=True)
    model = load_model(
        str(folder), dtype="float32", device=f"cpu+disk:{tmp_path / 'd'}", by_layer=True
    )
    assert list((tmp_path / "d").rglob("*.safetensors"))
    assert_same(model, results(load_model(str(llava), dtype="float32")))


@pytest.mark.slow
def test_what_does_not_fit_is_said_before_loading(
    llava: Path, room: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("accelerate")
    model: Any = load_model(str(llava), weights=False)
    monkeypatch.setattr(model.network, "from_pretrained", None)
    room(1)
    for options, location in (
        ({}, "on cpu, found"),
        ({"device": "cpu+disk:x"}, "on cpu, found"),
        ({"by_layer": True}, "on cpu, two layers at a time, found"),
    ):
        message = error(llava, **options)
        assert "expected room for 0.00 GB of weights in float32" in message
        assert location in message
        assert "spread it (--devices cpu+disk:DIR), extract it layer by layer" in message


@pytest.mark.slow
def test_without_accelerate_one_line_says_what_to_install(
    llava: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "has_accelerate", lambda: False)
    for options in ({"device": "cpu+disk:x"}, {"by_layer": True}):
        assert "pip install 'kvtool[accelerate]'" in error(llava, **options)
    load_model(str(llava), dtype="float32")


def test_an_encoder_alone_and_several_devices_are_refused(llava: Path, tmp_path: Path) -> None:
    encoder = tiny.siglip(tmp_path / "siglip")
    for options in ({"device": "cpu+disk:x"}, {"by_layer": True}):
        assert "an encoder alone; name one device" in error(encoder, **options)
    assert "expected cuda:7 to exist" in error(llava, device="cuda:7+cpu")
