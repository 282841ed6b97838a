"""Copies between folders: equal byte for byte, resumed, chosen, and refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from kvtool.errors import CorruptError, RunConflictError, StoreError, UsageError
from kvtool.layers import LayerChoice
from kvtool.store import Store, copied_parts, open_store
from kvtool.store.copying import copy
from kvtool.store.repair import repair
from kvtool.store.verify import verify
from kvtool.types import Kind
from tests.support.object_stores import IMAGES, files_of, filled
from tests.support.runs import assert_holds, commit, config, create_run, finite_bits, image_arrays
from tests.support.shell import Shell


@pytest.fixture
def source(tmp_path: Path) -> Store:
    return filled(tmp_path / "source.kv")


@pytest.fixture
def target(tmp_path: Path) -> Store:
    return open_store(tmp_path / "target.kv", create=True)


def test_a_copy_is_equal_byte_for_byte_and_verifies(source: Store, target: Store) -> None:
    copied = copy(source, target)
    assert [(row.parts, row.images, row.already_there, row.failed) for row in copied.runs] == [
        (2, 5, 0, [])
    ]
    assert copied.results == 2
    assert files_of(target.run()) == files_of(source.run())
    assert sorted(map(str, target.results())) == sorted(map(str, source.results()))
    assert (target.pictures_dir("drawn") / "1.png").read_bytes() == b"one"
    assert verify(target) == []


def test_the_same_copy_goes_on_where_it_was_ended(
    source: Store, target: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = copied_parts._copy_file, 0

    def ended(task: copied_parts.CopyTask) -> object:
        nonlocal calls
        calls += 1
        if calls == 25:  # in the second part
            raise KeyboardInterrupt
        return real(task)

    with monkeypatch.context() as patch:
        patch.setattr(copied_parts, "_copy_file", ended)
        with pytest.raises(KeyboardInterrupt):
            copy(source, target)
    assert [image.id for image in target.run().samples] == ["image0", "image1", "image2"]
    row = copy(source, target).runs[0]
    assert (row.parts, row.already_there) == (1, 2)  # the first part and the texts were there
    assert files_of(target.run()) == files_of(source.run())
    again = copy(source, target)
    assert (again.runs[0].parts, again.runs[0].already_there, again.results) == (0, 3, 0)


def test_a_damaged_part_is_left_out_and_named(source: Store, target: Store) -> None:
    shard = source.run().folder / "parts" / "0000000-0000003" / "key" / "c.0.0.0.0"
    data = bytearray(shard.read_bytes())
    data[7] ^= 1
    shard.write_bytes(data)
    row = copy(source, target).runs[0]
    assert (row.parts, row.images) == (1, 2)
    assert len(row.failed) == 1
    assert "run tiny, part 0000000-0000003: file key/c.0.0.0.0: expected the bytes" in row.failed[0]
    assert_holds(target.run(), IMAGES[3:])


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("kinds", "layers", "arrays"),
    [
        (("value",), (3,), {"value", "text_value"}),
        (None, "late", {"key", "value", "projected", "vision", "text_key", "text_value"}),
        (("projected", "vision"), None, {"vision", "projected"}),
    ],
)
def test_chosen_kinds_and_layers_are_the_run_that_an_extraction_of_them_makes(
    source: Store,
    target: Store,
    kinds: tuple[Kind, ...] | None,
    layers: LayerChoice | None,
    arrays: set[str],
) -> None:
    copied = copy(source, target, kinds=kinds, layers=layers)
    run, original = target.run(), source.run().config
    chosen_layers = original.layers if layers is None else (3,)
    expected = config(kinds=kinds or original.kinds, layers=chosen_layers)
    assert run.config.hash == expected.hash
    assert (copied.runs[0].images, copied.results) == (5, 0)
    for image in IMAGES:
        all_arrays = image_arrays(original, image)
        positions = [original.layers.index(layer) for layer in chosen_layers]
        for name, values in run.read_image(image.id, raw=True).items():
            in_layers = name in ("key", "value", "text_key", "text_value")
            reference = all_arrays[name][positions] if in_layers else all_arrays[name]
            assert np.array_equal(values, reference)
    assert set(run.read_image("image3")) == arrays
    if "value" in run.kinds:
        assert run.text_names == ["cat", "dog"]
        assert run.texts().token_counts == {"cat": 1, "dog": 2}
        assert np.array_equal(run.text_values(3, 1), source.run().text_values(3, 1))
    assert verify(target) == []


@pytest.mark.parametrize("counted", [("cat", "dog"), ("cow",), ()])
def test_texts_keep_the_counts_of_tokens_that_are_known_in_a_copy_of_a_kind(
    target: Store, tmp_path: Path, counted: tuple[str, ...]
) -> None:
    """Texts of an older kvtool have none; those that were added since have."""
    source = open_store(tmp_path / "texts.kv", create=True)
    run = create_run(source, config(kinds=("key", "value")))
    commit(run, IMAGES)
    rng = np.random.default_rng(0)
    token_counts = {"cat": 1, "dog": 2, "cow": 3}
    for names in (["cat", "dog"], ["cow"]):
        values = finite_bits(rng, (len(names), 2, 2, 8), np.dtype("<u2"))
        counts = [token_counts[name] for name in names if name in counted]
        run.commit_text(names, values, token_counts=counts)
    copy(source, target, kinds=["value"])
    copied = target.run()
    assert copied.text_names == ["cat", "dog", "cow"]
    assert copied.texts().token_counts == {name: token_counts[name] for name in counted}
    for layer in (1, 3):
        assert np.array_equal(copied.text_values(layer, 1), run.text_values(layer, 1))
    assert verify(target) == []


def test_images_that_the_target_holds_in_another_part_are_not_copied_twice(
    source: Store, target: Store
) -> None:
    run = create_run(target, config())
    run.enroll([image.id for image in IMAGES[:3]], "/data")
    commit(run, IMAGES[1:4])
    row = copy(source, target).runs[0]
    assert row.images == 2
    assert_holds(target.run(), IMAGES)
    assert verify(target) == []


def test_what_cannot_be_copied_is_refused_before_anything_is_written(
    source: Store, target: Store, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="expected another store to copy to"):
        copy(source, source)
    with pytest.raises(UsageError, match="no run 'absent'"):
        copy(source, target, runs=["absent"])
    with pytest.raises(UsageError, match=r"expected kinds among key, .*, found hidden"):
        copy(source, target, kinds=["hidden"])
    with pytest.raises(UsageError, match="expected layers among 1, 3, found 2"):
        copy(source, target, layers=[2, 3])
    assert target.runs() == []
    create_run(target, config(prefix="correct"))
    with pytest.raises(RunConflictError, match="found one of others"):
        copy(source, target)
    third = open_store(tmp_path / "third.kv", create=True)
    create_run(third, config()).enroll(["image1"], "/data")
    with pytest.raises(RunConflictError, match="in the order of the run to be copied"):
        copy(source, third)


def test_a_lost_file_is_told_as_damage(source: Store, target: Store) -> None:
    shutil.rmtree(source.run().folder / "text" / "0000000" / "value")
    row = copy(source, target).runs[0]
    assert (row.parts, len(row.failed)) == (2, 1)
    assert "is missing" in row.failed[0]
    assert [sample.id for sample in target.run().samples] == [image.id for image in IMAGES]
    with pytest.raises(CorruptError):
        source.run().text_values(3, 1)


def test_what_the_ledger_lists_and_is_gone_is_named(source: Store, target: Store) -> None:
    run = source.run()
    shutil.rmtree(run.folder / "parts" / "0000000-0000003")
    shutil.rmtree(run.folder / "text" / "0000000")
    row = copy(source, target).runs[0]
    assert (row.parts, row.images) == (1, 2)
    assert sorted(row.failed) == [
        f"run tiny, part {name}: expected its folder, found it in the ledger alone: "
        "`kvtool store repair` forgets it, then extract again"
        for name in ("0000000-0000003", "text/0000000")
    ]
    assert_holds(target.run(), IMAGES[3:])
    assert verify(target) == []
    # What the target has is not missed.
    commit(target.run(), IMAGES[:3])
    assert len(copy(source, target).runs[0].failed) == 1


def test_runs_that_are_gone_or_damaged_are_named_and_the_others_copied(
    source: Store, target: Store
) -> None:
    lost_run = create_run(source, config(name="lost"))
    bad_run = create_run(source, config(name="bad"))
    shutil.rmtree(lost_run.folder)
    (bad_run.folder / "zarr.json").write_text("{")
    rows = copy(source, target).runs
    assert [(row.run, row.parts, len(row.failed)) for row in rows] == [
        ("tiny", 2, 0),
        ("bad", 0, 1),
        ("lost", 0, 1),
    ]
    assert "expected a run that opens, found it damaged" in rows[1].failed[0]
    assert "expected its folder, found it in the ledger alone" in rows[2].failed[0]
    # Who names the runs to copy hears of those alone.
    assert [row.failed for row in copy(source, target, runs=["tiny"]).runs] == [[]]


@pytest.mark.slow
def test_the_command_ends_with_what_to_do_and_leaves_what_it_copied(
    source: Store, tmp_path: Path, shell: Shell
) -> None:
    shutil.rmtree(source.run().folder / "parts" / "0000003-0000005")
    command = ("store", "copy", source.path, tmp_path / "target.kv")
    code, _, err = shell(*command)
    assert code == 4
    assert any("part 0000003-0000005: expected its folder" in line for line in err)
    assert "1 part, run or result left out" in err[-1]
    assert_holds(open_store(tmp_path / "target.kv").run(), IMAGES[:3])
    assert shell("store", "repair", source.path)[0] == 0
    assert shell(*command)[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "what"),
    [("key/c.0.0.0.0", "bytes, found 3"), ("value/zarr.json", "zarr.json"), ("", "zarr.json")],
)
def test_a_copy_that_is_damaged_where_it_is_is_named(
    file: str, what: str, source: Store, target: Store
) -> None:
    copy(source, target)
    part = target.run().folder / "parts" / "0000000-0000003"
    if what == "zarr.json":
        (part / (file or "zarr.json")).unlink()
    else:
        (part / file).write_bytes(b"abc")
    row = copy(source, target).runs[0]
    assert (row.parts, row.already_there, len(row.failed)) == (0, 2, 1)
    assert row.failed[0].startswith("run tiny, part 0000000-0000003 of the copy: ")
    assert what in row.failed[0]
    assert row.failed[0].endswith(f"`kvtool store repair {target.path}`, then copy again")
    # What it says is what helps.
    assert list(repair(target))
    assert copy(source, open_store(target.path)).runs[0].failed == []
    assert verify(target) == []


@pytest.mark.slow
def test_no_store_is_made_within_another(source: Store, tmp_path: Path, shell: Shell) -> None:
    inner = source.path / "inner.kv"
    code, _, (line,) = shell("store", "copy", source.path, inner)
    assert code == 1
    assert f"store {inner}: expected a folder outside of other stores, found it within" in line
    assert not inner.exists()
    assert verify(source) == []
    (tmp_path / "link").symlink_to(source.run().folder)
    with pytest.raises(StoreError, match="outside of other stores"):
        open_store(tmp_path / "link" / "inner.kv", create=True)
