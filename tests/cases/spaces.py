"""Commands in private namespaces, where this machine allows them to this user."""

from __future__ import annotations

import shutil
import subprocess

import pytest


def allowed(*flags: str) -> bool:
    """Whether `unshare` makes such a namespace here."""
    if shutil.which("unshare") is None:
        return False
    return (
        subprocess.run(["unshare", *flags, "true"], capture_output=True, check=False).returncode
        == 0
    )


def needs(*flags: str) -> pytest.MarkDecorator:
    """Skip where the namespace cannot be made."""
    words = " ".join(("unshare", *flags))
    return pytest.mark.skipif(
        not allowed(*flags), reason=f"`{words}` is not possible here (root, util-linux)"
    )
