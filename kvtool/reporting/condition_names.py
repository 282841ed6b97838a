"""What the conditions of knockouts and prefixes are called, in sentences and figures alike."""

from __future__ import annotations

from kvtool.result import Row

HEAD_SETS = {
    "chosen": "the heads given",
    "dependent": "control: as many that depend on the input",
    "random": "control: as many at random",
    **{name: f"those in {name} layers" for name in ("early", "middle", "late")},
}
PREFIXES = {name: f"{name} prefix" for name in ("correct", "random", "incorrect")}
NOTHING = "nothing changed"
NO_PREFIX = "no prefix"


def condition_name(row: Row) -> str:
    """Return a condition's name in words: of heads that are blocked, or of a text before images."""
    name = str(row["condition"])
    if row.get("choice"):
        return NO_PREFIX if name == "none" else PREFIXES.get(name, name)
    words = NOTHING if name == "none" else HEAD_SETS.get(name, name)
    draw = row.get("draw")
    return words + (f", draw {draw}" if draw not in (None, "all") else "")
