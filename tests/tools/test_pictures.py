"""README's picture of the page is there, as wide as it is shown, and small."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.support.chromium import CHROMIUM, NO_CHROMIUM
from tests.tools import pictures
from tests.tools.readme import README

MOST_BYTES = 300_000


@pytest.mark.parametrize("name", [pictures.PAGE, pictures.VIEWER])
def test_readme_shows_page_and_viewer(name: str) -> None:
    assert f'src="docs/figures/{name}"' in README.read_text(encoding="utf-8")
    assert (pictures.FIGURES / name).stat().st_size < MOST_BYTES
    with Image.open(pictures.FIGURES / name) as picture:
        assert picture.size == pictures.SCREEN_WH_PX


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM)
def test_a_screen_is_that_of_the_page(tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    report.write_text("<body style='background: #102030'>")
    screen = pictures.first_screen(report.as_uri()).convert("RGB")
    assert screen.size == pictures.SCREEN_WH_PX
    assert screen.getpixel((5, 5)) == (0x10, 0x20, 0x30)


def test_without_a_demo_the_use_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert pictures.main([]) == 2
    assert capsys.readouterr().err
