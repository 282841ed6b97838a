"""The text before each image: one text for all, or a file of one an image."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import kvtool
from kvtool.engine.outcome import Report
from kvtool.engine.prefixes import read_texts
from kvtool.errors import UsageError
from kvtool.store import Run
from tests.support.messages import messages


@pytest.fixture
def few(tmp_path: Path, pictures: Path) -> Path:
    folder = tmp_path / "few"
    folder.mkdir()
    for i in range(4):
        shutil.copy(pictures / f"{i:03d}.png", folder)
    return folder


def extracted(
    tmp_path: Path, model: Path, few: Path, prefix: str, **options: Any
) -> tuple[Report, Run]:
    report = kvtool.extract(
        tmp_path / "s.kv", model=str(model), dataset=f"folder:{few}", prefix=prefix, **options
    )
    return report, kvtool.open(tmp_path / "s.kv").run(report.run)


@pytest.mark.slow
def test_each_image_gets_its_text(tmp_path: Path, tiny_model: Path, few: Path) -> None:
    table = tmp_path / "texts.csv"
    table.write_bytes(
        '\ufeffnote,image,text\r\n1,001.png,the red cat\r\n\r\n2,000.png,"a, '
        'blue\ndog"\r\n'.encode()
    )
    report, run = extracted(tmp_path, tiny_model, few, f"file:{table}")
    assert {sample.id: sample.prefix for sample in run.samples} == {
        "000.png": "a, blue\ndog",
        "001.png": "the red cat",
    }
    assert run.config.prefix == "file"
    assert [failure.id for failure in report.failed.values()] == ["002.png", "003.png"]
    assert "expected a text for --prefix file" in report.failed[2].reason


@pytest.mark.slow
def test_a_run_is_the_same_wherever_its_file_lies_and_another_for_other_texts(
    tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    rows = [f"{i:03d}.png,cat" for i in range(4)]
    (tmp_path / "a.csv").write_text("\n".join(["image,text", *rows]))
    (tmp_path / "b.csv").write_text(
        "\n".join(["text,id", *(",".join(row.split(",")[::-1]) for row in rows[::-1])])
    )
    (tmp_path / "c.csv").write_text("\n".join(["image,text", *rows[1:], "000.png,dog"]))
    first, _ = extracted(tmp_path, tiny_model, few, f"file:{tmp_path / 'a.csv'}")
    again, _ = extracted(tmp_path, tiny_model, few, f"file:{tmp_path / 'b.csv'}")
    second, _ = extracted(tmp_path, tiny_model, few, f"file:{tmp_path / 'c.csv'}", limit=2)
    assert (first.run, again.n_before, again.n_done) == (again.run, 4, 0)
    assert second.run != first.run


def test_empty_cells_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("image,text\na,\nb, \nc,cat\n")
    assert read_texts(str(tmp_path / "a.csv")) == {"c": "cat"}


@pytest.mark.slow
def test_unknown_images_are_counted(tmp_path: Path, tiny_model: Path, few: Path) -> None:
    rows = ["image,text", "000.png,cat", "x.png,cat", "y.png,cat"]
    (tmp_path / "a.csv").write_text("\n".join(rows))
    with messages() as lines:
        report, _ = extracted(tmp_path, tiny_model, few, f"file:{tmp_path / 'a.csv'}", limit=1)
    assert (report.n_done, report.failed) == (1, {})
    assert "2 of 3 images are not in the data set, e.g. 'x.png'" in lines[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"a\.csv: expected a CSV file of prefixes, found: No such file"),
        (b"", r"a\.csv: line 1: expected the columns image and text, found nothing"),
        (
            b"image,caption\n",
            r"a\.csv: line 1: expected the columns image and text, found image, caption",
        ),
        (b"name,text\n", r"line 1: expected the columns image and text, found name, text"),
        (
            b"image,text\na,b\na,c\n",
            r"a\.csv: line 3: expected one text an image, found 'a' again after line 2",
        ),
        (b"image,text\na,b,c\n", r"a\.csv: line 2: expected 2 columns as in line 1, found 3; put"),
        (b"image,text\na\n", r"a\.csv: line 2: expected 2 columns as in line 1, found 1"),
        (b"image,text\na,b\nc,\xe9\n", r"a\.csv: line 3: expected UTF-8, found byte 0xe9"),
        (b'image,text\na,"b" c\n', r"a\.csv: line 2: expected CSV, found: "),
        (
            b"image,text\nx.png,b\n",
            r"expected images of the data set such as '000\.png', found 'x\.png' and others",
        ),
        (b"image,text\n000.png, \n", r"a\.csv: expected a text for at least one image, found none"),
    ],
)
def test_bad_files_are_one_line(
    tmp_path: Path, tiny_model: Path, few: Path, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        kvtool.extract(
            tmp_path / "s.kv",
            model=str(tiny_model),
            dataset=f"folder:{few}",
            prefix=f"file:{tmp_path / 'a.csv'}",
        )
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "s.kv").exists()


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        ("text:", "--prefix text: expected a text after the colon"),
        ("text: \n", "--prefix text: expected a text after the colon"),
        ("file:", "--prefix file: expected the path of a CSV file"),
        ("file", "no prefix condition 'file'"),
    ],
)
def test_prefixes_that_say_nothing(
    tmp_path: Path, tiny_model: Path, few: Path, prefix: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        kvtool.extract(
            tmp_path / "s.kv", model=str(tiny_model), dataset=f"folder:{few}", prefix=prefix
        )
