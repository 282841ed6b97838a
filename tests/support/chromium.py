"""The browser of tests and pictures: Chromium, found on the path or named by $CHROMIUM."""

from __future__ import annotations

import os
import shutil

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
NO_CHROMIUM = "no chromium: apt-get install chromium, or set CHROMIUM"
