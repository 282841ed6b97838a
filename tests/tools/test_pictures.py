"""README's picture of the page is there, as wide as it is shown, and small."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.support.chromium import CHROMIUM, NO_CHROMIUM
from tests.tools import pictures
from tests.tools.readme import README

MOST_BYTES = 300_000


def test_readme_shows_the_page() -> None:
    assert f'src="docs/figures/{pictures.PICTURE.name}"' in README.read_text(encoding="utf-8")
    assert pictures.PICTURE.stat().st_size < MOST_BYTES
    with Image.open(pictures.PICTURE) as picture:
        assert picture.size == pictures.SCREEN_WH_PX


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM)
def test_the_picture_is_of_the_given_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = tmp_path / "report.html"
    report.write_text("<body style='background: #102030'>")
    monkeypatch.setattr(pictures, "PICTURE", tmp_path / "page.png")
    assert pictures.main([str(report)]) == 0
    with Image.open(tmp_path / "page.png") as picture:
        assert picture.size == pictures.SCREEN_WH_PX
        assert picture.convert("RGB").getpixel((640, 400)) == (16, 32, 48)
    assert pictures.main([]) == 2
