"""The pages on data sets say what the loaders do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kvtool.datasets import DATASETS, list_datasets
from kvtool.datasets.base import About, DatasetBase
from kvtool.datasets.raster import MAX_PIXELS
from kvtool.errors import DatasetError, UsageError
from tests.support import datasets as builders

DOCS = Path(__file__).parents[2] / "docs"


def sections() -> dict[str, str]:
    """Heading -> text of docs/datasets.md."""
    parts = re.split(
        r"^## (.+)$", (DOCS / "datasets.md").read_text(encoding="utf-8"), flags=re.MULTILINE
    )[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_one_section_a_dataset_in_the_order_of_the_table() -> None:
    names = [description.name for description in list_datasets()]
    assert list(sections()) == ["Images", "Captions and concepts", "Where to get them", *names]
    assert f"{MAX_PIXELS / 1e6:.0f} megapixels" in sections()["Images"]


@pytest.mark.parametrize("description", list_datasets(), ids=lambda description: description.name)
def test_layout_splits_tasks_and_prefixes(description: About) -> None:
    text = sections()[description.name]
    assert all(line.partition("  ")[0] in text for line in description.layout)
    assert all(f"`{split}`" in text for split in description.splits)
    assert ", ".join(description.tasks) in text if description.tasks else "Tasks: none" in text
    for condition in ("correct", "incorrect"):
        assert (f"`{condition}`" in text or f'prefix "{condition}"' in text) == (
            condition in description.conditions
        )


def example() -> type[DatasetBase]:
    """The class of docs/adding-a-dataset.md, from the page's own code."""
    page = (DOCS / "adding-a-dataset.md").read_text(encoding="utf-8")
    code = page.partition("```python\n")[2].partition("```")[0]
    namespace: dict[str, type[DatasetBase]] = {}
    exec(compile(code, "adding-a-dataset.md", "exec"), namespace)
    return namespace["Birds"]


def test_the_example_works(tmp_path: Path) -> None:
    birds = example()
    for name in ("owl", "wren"):
        builders.picture(tmp_path / f"images/{name}.jpg")
    builders.write_text(tmp_path / "lists/test.txt", "wren\r\nowl\r\n")
    dataset = birds(tmp_path)
    assert [(ref.id, ref.path) for ref in dataset.images()] == [
        (name, tmp_path / f"images/{name}.jpg") for name in ("wren", "owl")
    ]
    assert dataset.prefix("owl", "none") == ""
    assert dataset.truth_files() == [tmp_path / "lists/test.txt"]
    with pytest.raises(
        DatasetError, match=r"birds: .* expected the list of images at lists/train.txt"
    ):
        birds(tmp_path, "train")
    with pytest.raises(UsageError, match=r"birds: unknown split 'val'; known: test, train"):
        birds(tmp_path, "val")


def test_captions_and_concepts_name_every_data_set_that_has_them() -> None:
    text = sections()["Captions and concepts"]
    for name in DATASETS.names():
        loader = DATASETS.load(name)
        row = next((line for line in text.splitlines() if line.startswith(f"| `{name}` |")), "")
        cells = [cell.strip() for cell in row.split("|")[2:4]] or ["", ""]
        assert [bool(cell) for cell in cells] == [
            hasattr(loader, "captions"),
            hasattr(loader, "concepts"),
        ]
