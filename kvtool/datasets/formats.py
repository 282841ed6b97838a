"""What a file is, by its first bytes or its suffix: a picture kvtool reads, one it does not, or
none.
"""

from __future__ import annotations

import os
import re
from pathlib import PurePath

from kvtool.digests import open_regular

READ_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow's names. Raster formats only: Pillow would hand PostScript to an external program."""

_READ = (
    "apng avif avifs bmp gif j2c j2k jfif jif jp2 jpc jpe jpeg jpf jpg jpx mpo "
    "pbm pfm pgm png pnm ppm tif tiff webp"
)
READ_SUFFIXES = frozenset(f".{suffix}" for suffix in _READ.split())

_RAW = (
    "3fr arw cr2 cr3 crw dcr dng erf iiq kdc mef mos mrw nef nrw orf pef raf raw rw2 rwl sr2 srf "
    "srw x3f"
)
RAW_SUFFIXES = frozenset(f".{suffix}" for suffix in _RAW.split())
"""Cameras' own formats. Many are TIFF outside, and Pillow would read the small preview in them."""

_UNREAD = {
    "HEIC/HEIF": "heic heics heif heifs hif",
    "SVG": "svg svgz",
    "PDF": "pdf",
    "PostScript": "ps eps epsf ai",
    "a camera's raw format": _RAW,
    "JPEG XL": "jxl",
    "JPEG XR": "jxr hdp wdp",
    "Photoshop": "psd psb",
    "GIMP": "xcf",
    "an icon": "ico icns cur",
    "Targa": "tga",
    "OpenEXR or HDR": "exr hdr",
    "DDS": "dds",
    "DICOM": "dcm dicom",
    "QOI": "qoi",
}
UNREAD_SUFFIXES = {
    f".{suffix}": name for name, suffixes in _UNREAD.items() for suffix in suffixes.split()
}
"""Suffix -> format, for pictures that kvtool does not read."""

_NO_PICTURES = (
    "7z aac aria2 avi bak bin bz2 cfg conf crdownload csv db doc docx flac gz h5 hdf5 htm html ini "
    "ipynb jpgw json "
    "jsonl lock log m4a m4v mat md mkv mov mp3 mp4 mpeg mpg npy npz odt ogg old onnx orig p "
    "parquet part pgw pickle "
    "pkl pth pt py rar rst safetensors sh sqlite srt swp tar tex tgz tfrecord tmp toml tsv txt url "
    "vtt wav webm wmv "
    "xls xlsx xml xmp xz yaml yml zip zst"
)
OTHER_SUFFIXES = frozenset(f".{suffix}" for suffix in _NO_PICTURES.split())
"""What lies beside pictures and is none: passed over without a look."""

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
HEAD_BYTES = 512
"""Enough for the comment before an SVG's first tag."""

_READ_SIGNATURES = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBP|II[*+]\0|MM\0[*+]"
    rb"|\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51|....ftyp(?:avif|avis)"
    rb"|....ftyp(?:mif1|msf1).{4,48}avi[fs]"
    rb"|P[1-6f]\s+[#0-9]|BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0",
    re.DOTALL,
)
_OTHER_SIGNATURES = (
    ("HEIC/HEIF", re.compile(rb"....ftyp(?:hei|hev|mif1|msf1)", re.DOTALL)),
    ("SVG", re.compile(rb"\s*(?:<\?xml[^<]*)?(?:<!--[^<]*)?(?:<!DOCTYPE svg[^<]*)?<svg")),
    ("PDF", re.compile(rb"%PDF-")),
    ("PostScript", re.compile(rb"%!PS|\xc5\xd0\xd3\xc6")),
    ("JPEG XL", re.compile(rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n")),
    ("Photoshop", re.compile(rb"8BPS")),
    ("a ZIP archive", re.compile(rb"PK\x03\x04")),
    ("a web page", re.compile(rb"\s*<(?:!doctype )?html", re.IGNORECASE)),
)


def head_of(path: str | os.PathLike[str]) -> bytes:
    """The first bytes of a regular file; none of anything else."""
    try:
        with open_regular(path) as fd:
            return os.read(fd, HEAD_BYTES)
    except (OSError, ValueError):
        return b""


def is_picture(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a picture that kvtool reads."""
    return _READ_SIGNATURES.match(head) is not None


def unread_picture(head: bytes) -> str | None:
    """The name of a picture format that kvtool does not read, by the first bytes of a file."""
    name = unread_format(head)
    return name if name in _UNREAD else None


def unread_format(head: bytes) -> str | None:
    """Return the name of a format that kvtool does not read, by the first bytes of a file; None for
    any other file.
    """
    return next((name for name, signature in _OTHER_SIGNATURES if signature.match(head)), None)


def refusal(data: bytes, name: str) -> str | None:
    """Return why a file's bytes are no picture that can be read, and what to do; None where they
    may be one.

    `name` is the file's: a raw photograph is known by its suffix alone.
    """
    # Signatures stand in the first bytes; the comments before an SVG's tag take the most.
    head = data[:HEAD_BYTES]
    if not data:
        return "the file is empty (0 bytes); replace it"
    if data.startswith(LFS_POINTER):
        return "a git-lfs pointer, not the picture; fetch it: git lfs pull"
    # Raw photographs are TIFF outside: only their suffix says that the preview is not the picture.
    suffix = PurePath(name).suffix.lower()
    if suffix in RAW_SUFFIXES and is_picture(head):
        return f"{UNREAD_SUFFIXES[suffix]}, which kvtool does not read; develop it to JPEG or PNG"
    if is_picture(head):
        return None
    format_name = unread_format(head) or UNREAD_SUFFIXES.get(suffix)
    return (
        None
        if format_name is None
        else f"{format_name}, which kvtool does not read; convert it to JPEG or PNG"
    )
