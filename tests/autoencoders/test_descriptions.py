"""Descriptions of features from the files in which they are published."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from kvtool.autoencoders.descriptions import read_descriptions, write_descriptions
from kvtool.errors import DatasetError, StoreError, UsageError


def write(path: Path, content: Any) -> Path:
    """JSON, JSON lines where the suffix says so, or text as it is; gzipped for .gz."""
    lines = ".jsonl" in path.name and not isinstance(content, str)
    text = content if isinstance(content, str) else json.dumps(content)
    if lines:
        text = "".join(f"{json.dumps(record)}\n" for record in content)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def explanation(index: int, text: Any, source: str = "12-gemmascope-res-16k") -> dict[str, Any]:
    return {
        "id": f"x{index}",
        "modelId": "gemma-2-2b",
        "layer": source,
        "index": str(index),
        "description": text,
        "typeName": "oai_token-act-pair",
        "embedding": [0.5, 0.25],
    }


def test_neuronpedia_export(tmp_path: Path) -> None:
    """Batches are ordered by the text of the index, so only the index itself counts."""
    root = tmp_path / "v1/gemma-2-2b/12-gemmascope-res-16k"
    first = [explanation(0, "words  about\ndogs"), explanation(1000, "a cat")]
    write(root / "explanations/batch-0.jsonl.gz", first)
    second = [explanation(2, "boats"), explanation(0, "a second explanation")]
    write(root / "explanations/batch-1.jsonl.gz", second)
    features = [{"index": "2", "frac_nonzero": 0.02, "maxActApprox": 8.0, "pos_str": []}]
    write(root / "features/batch-0.jsonl.gz", features)
    write(root / "activations/batch-0.jsonl.gz", [{"index": "0", "tokens": ["a"], "values": [1]}])
    descriptions = read_descriptions(tmp_path / "v1")
    assert descriptions == {12: {0: "words about dogs", 1000: "a cat", 2: "boats"}}
    assert descriptions.densities == {12: {2: 0.02}}
    assert (descriptions.models, descriptions.skipped) == ({"gemma-2-2b"}, [])


def test_dump_of_lists_numbers_features_by_position(tmp_path: Path) -> None:
    def feature(text: str | None) -> dict[str, Any]:
        explanations = [] if text is None else [{"description": text}, {"description": "later"}]
        return {"modelId": "gemma-2-2b", "frac_nonzero": 0.001, "explanations": explanations}

    for layer in (3, 12):
        folder = tmp_path / f"dump/{layer}-gemmascope-res-16k"
        write(folder / "0-128.json", [feature("first"), feature(None)])
        write(folder / "128-256.json", [feature(None), feature(f"in {layer}")])
    descriptions = read_descriptions(tmp_path / "dump")
    assert descriptions == {3: {0: "first", 129: "in 3"}, 12: {0: "first", 129: "in 12"}}
    assert set(descriptions.densities[3]) == {0, 1, 128, 129}
    single = read_descriptions(tmp_path / "dump/12-gemmascope-res-16k/128-256.json")
    assert single == {12: {129: "in 12"}}


def test_object_of_the_api(tmp_path: Path) -> None:
    record = {
        "modelId": "gpt2-small",
        "layer": "6-res-jb",
        "index": "650",
        "frac_nonzero": 0.01,
        "explanations": [{"description": "names of towns"}],
    }
    assert read_descriptions(write(tmp_path / "one.json", record)) == {6: {650: "names of towns"}}


def test_plain_json_and_csv(tmp_path: Path) -> None:
    plain = {"layer": 3, "features": {"12": "text", "7": "more"}}
    assert read_descriptions(write(tmp_path / "a.json", plain)) == {3: {12: "text", 7: "more"}}
    several = [plain, {"layer": 4, "features": {"0": "x"}, "contexts": {}}]
    assert read_descriptions(write(tmp_path / "b.json", several))[4] == {0: "x"}
    assert read_descriptions(write(tmp_path / "layer_5/c.json", {"12": "text"})) == {
        5: {12: "text"}
    }
    table = 'layer,index,description,density\n2,4,"a, b",0.25\n2,5,c,\n'
    descriptions = read_descriptions(write(tmp_path / "d.csv", table))
    assert descriptions == {2: {4: "a, b", 5: "c"}}
    assert descriptions.densities == {2: {4: 0.25}}


@pytest.mark.parametrize("layers", [{3: {12: "text", 0: "é “quoted”"}}, {0: {1: "a"}, 7: {2: "b"}}])
def test_what_is_written_is_read_back(tmp_path: Path, layers: dict[int, dict[int, str]]) -> None:
    write_descriptions(tmp_path / "descriptions.json", layers)
    assert read_descriptions(tmp_path / "descriptions.json") == layers
    with pytest.raises(StoreError):
        write_descriptions(tmp_path / "no/such/folder.json", layers)


BAD: list[Any] = [
    explanation(1, 7),
    explanation(2, " "),
    explanation(-3, "negative"),
    {"layer": "12-x", "description": "no index"},
    explanation(5, "no layer", source="somewhere"),
    "no object",
]


def test_bad_records_are_left_out_and_named(tmp_path: Path) -> None:
    path = write(tmp_path / "batch-0.jsonl", [*BAD, explanation(9, "good")])
    path.write_text(path.read_text() + "not JSON\n")
    descriptions = read_descriptions(path)
    assert descriptions == {12: {9: "good"}}
    assert len(descriptions.skipped) == len(BAD) + 1
    for number, line in zip(
        [*range(1, len(BAD) + 1), len(BAD) + 2], descriptions.skipped, strict=True
    ):
        assert line.startswith(f"{path}: line {number}: expected")
        assert "\n" not in line


def test_a_bad_file_of_a_folder_is_left_out_and_named(tmp_path: Path) -> None:
    write(tmp_path / "layer_1/good.json", {"0": "text"})
    (tmp_path / "layer_1/cut.jsonl.gz").write_bytes(gzip.compress(b"x" * 9999)[:20])
    write(tmp_path / "layer_1/bad.json", "{")
    write(tmp_path / "layer_1/long.csv", "layer,index,description\n1,2," + "x" * 200_000)
    (tmp_path / "layer_1/.hidden.json").write_text("{")
    (tmp_path / "layer_1/latin.json").write_bytes(b'{"0": "\xe9"}')
    descriptions = read_descriptions(tmp_path)
    assert descriptions == {1: {0: "text"}}
    assert len(descriptions.skipped) == 4
    assert all("expected" in line and "\n" not in line for line in descriptions.skipped)


def test_nothing_to_use_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing there"):
        read_descriptions(tmp_path / "absent.json")
    with pytest.raises(UsageError, match="no such file below it"):
        read_descriptions(tmp_path)
    with pytest.raises(DatasetError, match=r"none to use; first problem: .*expected its layer"):
        read_descriptions(write(tmp_path / "a.json", {"1": "text"}))
    with pytest.raises(DatasetError, match=r"none to use$"):
        read_descriptions(write(tmp_path / "b.json", []))
