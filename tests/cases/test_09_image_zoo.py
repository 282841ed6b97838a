"""A folder as users have them: what is a picture is taken, and what is left out is named, with -q
too.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

import kvtool
from tests.cases.outcomes import told
from tests.support.shell import Shell

FORMATS = {
    "plain.png": "PNG",
    "UPPER.JPG": "JPEG",
    "sp ace ü 漢字.png": "PNG",
    "saved_from_browser.jfif": "JPEG",
    "noextension": "PNG",
    "photo.jpg_large": "JPEG",
    "really_jpeg.png": "JPEG",
    "really_png.jpg": "PNG",
    "line\nbreak.png": "PNG",
}
MODES = {"cmyk.jpg": "CMYK", "grey.jpg": "L", "la.png": "LA", "bit.png": "1", "pal.png": "P"}
EXTRAS = ("palt.png", "grey16.png", "anim.gif", "anim.webp", "exif6.jpg", "link.png")
UNREAD = ("phone.heic", "phone.HEIF", "vector.svg", "trunc.jpg", "empty.png", "dangling.png")


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    folder = tmp_path / "zoo"
    (folder / "__MACOSX").mkdir(parents=True)
    photo = Image.fromarray(np.random.default_rng(1).integers(0, 256, (60, 84, 3), dtype=np.uint8))
    for name, format in FORMATS.items():
        photo.save(folder / name, format=format)
    for name, mode in MODES.items():
        photo.convert(mode).save(folder / name)
    photo.convert("P").save(folder / "palt.png", transparency=3)
    Image.fromarray(np.arange(60 * 84, dtype=np.uint16).reshape(60, 84) * 13).save(
        folder / "grey16.png"
    )
    for name in ("anim.gif", "anim.webp"):
        photo.save(folder / name, save_all=True, append_images=[ImageOps.mirror(photo)])
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(folder / "exif6.jpg", exif=exif)
    header = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)
    (folder / "phone.heic").write_bytes(header)
    (folder / "phone.HEIF").write_bytes(header)
    (folder / "vector.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (folder / "trunc.jpg").write_bytes((folder / "UPPER.JPG").read_bytes()[:600])
    (folder / "empty.png").touch()
    (folder / "link.png").symlink_to("plain.png")
    (folder / "dangling.png").symlink_to("nowhere.png")
    (folder / "loop").symlink_to(".")
    (folder / "__MACOSX/._plain.png").write_bytes(b"\0\5\x16\7" + bytes(100))
    return folder


@pytest.mark.slow
def test_pictures_are_taken_and_the_rest_is_named(
    shell: Shell, tiny_model: Path, zoo: Path, tmp_path: Path
) -> None:
    command = ("extract", tmp_path / "s.kv", "--model", tiny_model, "--dataset", f"folder:{zoo}")
    for quiet in ([], ["-q"]):
        err = told(shell(*quiet, *command), 4, *UNREAD)
        for name, reason in (
            ("phone.heic", "HEIC/HEIF"),
            ("phone.HEIF", "HEIC/HEIF"),
            ("vector.svg", "SVG"),
        ):
            assert any(name in line and reason in line for line in err)
    run = kvtool.open(tmp_path / "s.kv").run()
    assert set(run.ids) == {*FORMATS, *MODES, *EXTRAS}
    sizes = {sample.id: sample.image_wh_px for sample in run.samples}
    assert (sizes["plain.png"], sizes["exif6.jpg"]) == ((84, 60), (60, 84))
