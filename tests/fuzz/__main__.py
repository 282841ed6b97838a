"""`make fuzz`: a long campaign; figures go to build/campaign.json, faults to build/fuzz.

Exit 1 where there is one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

# Before anything of torch or transformers is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("KVTOOL_CACHE", tempfile.mkdtemp(prefix="kvtool-fuzz-"))

FAULTS = ("lost", "doubled", "wrong", "tracebacks", "hangs", "memory")


def main() -> int:
    options = _parser().parse_args()
    from tests.fuzz.running import campaign
    from tests.support.figures import write_rows

    if options.only is not None:
        return _again(options)
    rows = campaign(options.count, options.seconds, options.seed, options.kind, options.keep)
    write_rows(options.out, rows)
    for row in rows:
        print(json.dumps(row))
    for fault in json.loads((options.keep / "faults.json").read_text()):
        print(
            f"{fault['outcome']}: {fault['what'][:160]} | {fault['where']} | {fault['times']} x | "
            f"{fault['again']}"
        )
    return int(any(row[name] for row in rows for name in FAULTS))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=12_000, help="inputs of all kinds together")
    parser.add_argument(
        "--seconds", type=float, help="end each kind when its share of this time is over"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--kind", action="append", help="only this kind; may be given several times"
    )
    parser.add_argument("--only", type=int, help="try this one input again, with its traceback")
    parser.add_argument("--out", type=Path, default=Path("build/campaign.json"))
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"))
    return parser


def _again(options: argparse.Namespace) -> int:
    """One input in this process, unbounded, so that a debugger and a traceback see all of it."""
    from tests.fuzz.running import all_kinds, scratch_folder, seeded
    from tests.fuzz.worker import input_random

    (kind,) = [kind for kind in all_kinds() if kind.name in options.kind]
    scratch = scratch_folder("again")
    opened = seeded(kind, scratch / "seeds")
    folder = scratch / "input"
    folder.mkdir()
    os.chdir(folder)
    print(f"input: {folder}", file=sys.stderr)
    opened.attempt(input_random(opened, options.seed, options.only), folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
