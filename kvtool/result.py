"""The result every command gives: one versioned schema, four formats.

Fields are documented in docs/output.md and only ever added.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, get_args

from kvtool import schema
from kvtool._version import __version__
from kvtool.display import Displayed, Facts
from kvtool.errors import KvtoolError, UsageError

SCHEMA = "kvtool.result/1"
FORMATS = ("table", "json", "jsonl", "csv")
LABELS = ("condition", "choice", "subset", "file", "alpha", "category", "object", "draw")
"""What a row may be about besides its block; a row with none of these, or `all`, is a summary."""
PARTS = ("file", "subset", "group")
"""Fields by which a condition's row says which part of a benchmark it is about."""

MAX_REASONS = 10
"""How many reasons for what was left out a result names; all are counted."""

Level = Literal["summary", "category", "per_layer", "baselines", "items"]
LEVELS: tuple[Level, ...] = get_args(Level)
"""The kinds of rows that a result has, see Result.to_pandas."""

RowChoice = Literal["summary", "all"]
"""The rows that are printed: those about all that was scored, or also those about its parts."""

Row = dict[str, Any]


@dataclass(frozen=True, repr=False)
class Result(Displayed):
    """What a command found.

    command, task: e.g. "probe", "semantic-correspondence". metric: the primary one, by which best
        and per_layer choose. n: sampling units scored; n_skipped: those left out because the run or
        the data set lacks what they need, with up to ten reasons in `skipped`; n_unusable: of
        those, the ones whose annotation or picture cannot be used (of probe and paired), or the
        tasks that a run cannot be scored on (of average). rows: one
        per (kind, layer, kv_head) and label, each metric with <metric>_low and <metric>_high. best:
        the best row of the decoder's kinds (of all, where there are none).
    per_layer: the best row of each (kind, layer). baselines: projected and vision blocks of this
        and of other runs of the data set. config: all that the numbers depend on. unit: of the
        metrics: "fraction", "percent" or a physical unit such as "m". items: single records behind
        the rows, e.g. a question each, where a command keeps them. higher_is_better: False for an
        error, of which the best is the lowest. chance: a row for each predictor that knows nothing
        of the images, with all metrics, and those of parts of what was scored.
    """

    command: str
    task: str | None
    metric: str
    n: int
    rows: list[Row]
    best: Row | None = None
    per_layer: list[Row] = field(default_factory=list)
    baselines: list[Row] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    n_skipped: int = 0
    n_unusable: int = 0
    skipped: list[str] = field(default_factory=list)
    unit: str = "fraction"
    items: list[Row] = field(default_factory=list)
    higher_is_better: bool = True
    chance: list[Row] = field(default_factory=list)

    def best_of(self, rows: Sequence[Row]) -> Row | None:
        """Return the best of some rows by the primary metric; None where it is defined for none."""
        return best_row(rows, self.metric, self.higher_is_better)

    def ranked(self, rows: Sequence[Row]) -> list[Row]:
        """Return the rows of which the primary metric is defined, the best first; equals stay in
        their order.
        """
        scored = [
            row
            for row in rows
            if row.get(self.metric) is not None and not math.isnan(row[self.metric])
        ]
        sign = -1 if self.higher_is_better else 1
        return sorted(scored, key=lambda row: sign * float(row[self.metric]))

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; a number that is not finite becomes null, counted in n_undefined."""
        counter = [0]
        body = {member.name: _plain(getattr(self, member.name), counter) for member in fields(self)}
        return {"schema": SCHEMA, **body, "n_undefined": counter[0]}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Result:
        """Return the inverse of to_json; fields that a later version added are left out.

        Raises KvtoolError for another schema, CorruptError where a field is none of its type.
        """
        if record.get("schema") != SCHEMA:
            raise KvtoolError(
                f"result: expected schema {SCHEMA}, found {record.get('schema')!r}; read it with "
                "a kvtool that knows it"
            )
        return schema.read(cls, record, "result")

    def to_pandas(self, level: Level = "summary") -> Any:
        """Return the rows of one level as a pandas.DataFrame, so that no two kinds of rows are
        mixed.

        Args:
            level: "summary", the rows about all that was scored, one for each block (or condition);
                "category", those about a part of it, such as a category, a subset or a threshold;
                "per_layer", "baselines" or "items", the fields of these names.

        Raises UsageError for another level, KvtoolError where pandas is not installed.
        """
        if level not in LEVELS:
            raise UsageError(f"level {level!r}: expected one of {', '.join(LEVELS)}")
        try:
            pandas = import_module("pandas")
        except ImportError:
            raise KvtoolError(
                "to_pandas needs pandas, which is not installed: pip install pandas"
            ) from None
        return pandas.DataFrame(self.level_rows(level))

    def level_rows(self, level: Level) -> list[Row]:
        """Return the rows of one level, see to_pandas."""
        if level not in ("summary", "category"):
            rows: list[Row] = getattr(self, level)
            return rows
        return [row for row in self.rows if row_level(row) == level]

    def summarized(self) -> Result:
        """Return the result without the rows about parts of what was scored."""
        return replace(self, rows=self.level_rows("summary"))

    def _title(self) -> str:
        return f"Result of {self.command} {self.task or ''}".strip()

    def _facts(self) -> Facts:
        counts = {level: len(self.level_rows(level)) for level in LEVELS}
        return {
            "run": self.config.get("run"),
            "metric": f"{self.metric} ({self.unit})",
            "n": f"{self.n}, and {self.n_skipped} left out" if self.n_skipped else self.n,
            "rows": ", ".join(f"{count} {level}" for level, count in counts.items() if count),
            "best": self.best and f"{block_name(self.best)}: {self.best.get(self.metric)}",
        }

    def flat_rows(self) -> Iterator[Row]:
        """Yield the rows as lines of their own: each also says which task and run it belongs to,
        and its level, summary or category, unless it is what a search found.
        """
        labels = {"task": self.task, "run": self.config.get("run")}
        names = {name: value for name, value in labels.items() if value is not None}
        for row in self.rows:
            level = {} if self.unit == "score" else {"level": row_level(row)}
            yield names | level | _plain(row, [0])


def row_level(row: Row) -> Level:
    """Return the level of a row, see Result.to_pandas."""
    # A condition is what a row is about, as a block is, and no part of what was scored.
    is_whole = is_summary({**row, "condition": None, "choice": None})
    return "summary" if is_whole else "category"


def is_summary(row: Row) -> bool:
    """Return whether a row is about its whole block."""
    # A block's group is that of its layer; a row that is of no block is about a group of questions.
    is_of_group = row.get("kind") is None and row.get("group") is not None
    return not is_of_group and all(row.get(label, "all") in ("all", None) for label in LABELS)


def part_label(rows: Sequence[Row]) -> str:
    """Return the field by which rows of conditions say which part of a benchmark they are about."""
    return next((name for name in PARTS if any(name in row for row in rows)), "subset")


CHANCE = ("chance", "chance_difference", "chance_max", "base_chance")
"""Fields with an interval that say what knows nothing gets, see docs/measures.md."""


def metric_names(row: Row) -> list[str]:
    """Return the metrics of a row: the fields that have an interval, but those about chance."""
    return [name for name in row if f"{name}_low" in row and name not in CHANCE]


def best_row(rows: Sequence[Row], metric: str, higher_is_better: bool = True) -> Row | None:
    """Return the row with the highest metric, of an error the lowest; the first of equals.

    None where the metric is defined nowhere.
    """
    scored = [row for row in rows if row.get(metric) is not None and not math.isnan(row[metric])]
    choose = max if higher_is_better else min
    return choose(scored, key=lambda row: float(row[metric]), default=None)


def chance_kind_of(chance: Sequence[Row], kind: str | None) -> str | None:
    """Return the kind by which a result's chance rows name the grids of a kind of block.

    Kinds of the same grids are named by the first of them; only `vision` may have grids of its own.
    None where there are no rows.
    """
    kinds = list(dict.fromkeys(row.get("kind") for row in chance))
    if kind in kinds:
        return kind
    decoder = [name for name in kinds if name != "vision"] if kind != "vision" else []
    return next(iter(decoder or kinds), None)


def block_name(row: Row) -> str:
    """Return a row's block in words: "value, layer 5, head 1"; its labels where it is no block."""
    parts = [str(row["kind"])] if row.get("kind") else []
    if row.get("layer") is not None and row.get("kind") != "projected":
        parts.append(f"layer {row['layer']}")
    if row.get("kv_head") is not None and row.get("kind") in ("key", "value"):
        parts.append(f"head {row['kv_head']}")
    parts += [str(row[label]) for label in LABELS if row.get(label) not in (None, "all")]
    return ", ".join(parts) or "all"


def result_key(depends_on: Any) -> str:
    """Return the name of a kept result: a hash of everything it depends on, see
    kvtool.store.provenance.
    """
    text = json.dumps([SCHEMA, depends_on], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def versions() -> dict[str, str]:
    """Return the versions of what computed a result."""
    installed = {"kvtool": __version__, "python": platform.python_version()}
    for name in ("numpy", "scipy", "torch", "faiss-cpu", "faiss-gpu"):
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed


def _plain(value: Any, undefined: list[int]) -> Any:
    """Return JSON values: tuples become lists, NumPy scalars Python's, and numbers that are not
    finite null, counted.
    """
    if isinstance(value, Mapping):
        return {str(name): _plain(item, undefined) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, undefined) for item in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    # JSON has no NaN and no infinity.
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        undefined[0] += 1
        return None
    return _plain(value.item(), undefined) if hasattr(value, "item") else str(value)
