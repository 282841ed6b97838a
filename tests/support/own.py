"""Changes to a tree of a user's own data, own:DIR."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support import datasets as builders


def rewrite(path: Path, *lines: Any) -> None:
    """A list with these lines alone; texts stand as they are."""
    builders.write_text(
        path, "".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines)
    )
