"""Numbers, texts and values that real files hold and few readers expect."""

from __future__ import annotations

from typing import Any

EXTREME_NUMBERS: tuple[Any, ...] = (
    *(
        0,
        -1,
        1,
        2,
        255,
        256,
        65535,
        2**31 - 1,
        2**31,
        2**32,
        2**63,
        -(2**63),
        2**64,
        10**9,
        10**18,
        10**400,
    ),
    *(float("nan"), float("inf"), float("-inf"), 1e9, 1e18, 1e308, -1e308, 5e-324, -0.0, 0.5),
)

EXTREME_TEXTS = (
    *(
        "",
        " ",
        "\0",
        "a\0b",
        "\n",
        "\ud800",
        "ü" * 300,
        "x" * 5000,
        "../../etc/passwd",
        "/",
        ".",
        "..",
        "~",
        "-",
        "NaN",
    ),
    *(
        "a/b",
        "a:b",
        "a@b",
        "[red]x[/red]",
        "\x1b[31m",
        "\u202eabc",
        "1e999",
        "0x10",
        "１２",
        "None",
        "true",
        "{}",
        "%s",
    ),
    "<script>alert(1)</script>",
)

OTHER_TYPES: tuple[Any, ...] = (
    None,
    True,
    False,
    [],
    {},
    [[]],
    [None],
    {"a": None},
    "text",
    7,
    0.5,
    [1, 2, 3],
)

LFS_POINTER = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d7a" * 16 + b"\nsize 12345\n"
)

HTML_PAGE = (
    b"<!DOCTYPE html><html><head><title>404 Not Found</title></head>"
    b"<body>no such file</body></html>\n"
)
