"""Heads that an earlier command ranked: the best of a probe, localization heads, keys with sinks.

What ranks them is a result that the store keeps of any run of the same model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kvtool.display import shell_path
from kvtool.errors import UsageError
from kvtool.models.methods import Head
from kvtool.result import Result, is_summary
from kvtool.store import Run, open_store, same_numbers
from kvtool.store.kept import extent, results_among
from kvtool.tasks import TASKS

PATTERN = re.compile(r"(best:(?P<task>[\w-]+)|localization|sinks)(:(?P<count>\d+))?")
COUNT = 3
"""Heads that are taken, unless another number is asked for."""
FEWEST_PICTURES = 8
"""Of fewer pictures attention says little of which heads do what: half of them choose, and in four
a head is first by luck."""
EXAMPLES = ("best:TASK[:N]", "localization[:N]", "sinks[:N]")


@dataclass(frozen=True)
class KeptHeads:
    """The heads of a kept result, the first ones of their order.

    Attributes:
        text: What was asked for.
        name: What ranks them: best, localization or sinks.
        task: The task of best.
        count: How many.
    """

    text: str
    name: str
    task: str | None
    count: int

    @classmethod
    def parse(cls, text: str) -> KeptHeads | None:
        """Read best:TASK[:N], localization[:N] or sinks[:N]; None for anything else. Raises
        UsageError for an unknown task, and a number of 0.
        """
        match = PATTERN.fullmatch(text)
        if match is None:
            return None
        task = match["task"]
        # An unknown task is an error now, not after the results are searched.
        if task is not None:
            TASKS.load(task)
        count = int(match["count"] or COUNT)
        if count < 1:
            raise UsageError(f"heads {text}: expected 1 head or more, found {count}")
        return cls(text, match[1].partition(":")[0], task, count)

    def of(self, run: Run) -> tuple[list[Head], str]:
        """Return the heads, and a note on the result that they come from.

        Raises UsageError where no result of a run of the same model is kept, and for fewer heads
        than asked for.
        """
        result = self._result(run)
        # Keys and values of one head may both be ranked: it counts once, at its better rank.
        heads = list(dict.fromkeys(RANKED[self.name](result)))
        if len(heads) < self.count:
            raise UsageError(
                f"heads {self.text}: expected {self.count} heads or more, found {len(heads)} in "
                f"what kvtool {result.command} found of run {result.config['run']}; ask for "
                "fewer, name heads as 3:1,4:0, or give it more pictures"
            )
        return heads[: self.count], self.note(result)

    def note(self, result: Result) -> str:
        """Say which result ranks the heads, and whether it is about too few pictures."""
        n_pictures = result.config.get("images", result.n)
        note = (
            f"heads {self.text}: as kvtool {result.command} ranked them over "
            f"{n_pictures} pictures of run {result.config['run']}"
        )
        if self.name == "best" or n_pictures >= FEWEST_PICTURES:
            return note
        return (
            f"{note}, which are few: expected {FEWEST_PICTURES} or more; measure more of them, or "
            "name the heads"
        )

    def _result(self, run: Run) -> Result:
        """Return the largest result of the run, else that of another run of the same model; the
        last of equal ones.
        """
        # Heads are the model's: another run of the same weights ranks them as well.
        store = open_store(run.store)
        model = run.config.model
        runs = store.readable_runs(lambda source: same_numbers(source.config.model, model))
        hashes = {source.config.hash for source in runs}
        candidates = [
            result
            for result in results_among(store.results())
            if self._is_meant(result) and result.config.get("run_hash") in hashes
        ]
        # A result of the same pictures is nearer than a larger one of others.
        run_results = [
            result for result in candidates if result.config["run_hash"] == run.config.hash
        ]
        if candidates:
            return max(run_results or candidates, key=extent)
        raise UsageError(
            f"heads {self.text}: expected a kept result of a run of {model.name}, found none; run "
            f"first: {self._command(run)}"
        )

    def _is_meant(self, result: Result) -> bool:
        """Tell whether a result ranks such heads."""
        if self.name == "best":
            return (result.command, result.task) == ("probe", self.task)
        task = "sinks" if self.name == "sinks" else None
        return (result.command, result.task) == ("attend", task)

    def _command(self, run: Run) -> str:
        """Return the command that ranks them."""
        store = shell_path(run.address)
        commands = {
            "best": f"kvtool probe {store} {self.task}",
            "localization": f"kvtool attend {store} --expressions",
            "sinks": f"kvtool attend {store} --sinks",
        }
        return commands[self.name]


def best_heads(result: Result) -> Iterator[Head]:
    """Yield the heads of a probe's blocks, the best block first."""
    for row in result.ranked([row for row in result.rows if is_summary(row)]):
        if row.get("kind") in ("key", "value"):
            yield row["layer"], row["kv_head"]


def localization_heads(result: Result) -> Iterator[Head]:
    """Yield the heads whose queries are localization heads, the most frequent first."""
    for row in result.config["localization"]["heads"]:
        yield row["layer"], row["kv_head"]


def sink_heads(result: Result) -> Iterator[Head]:
    """Yield the heads whose sinks draw most attention, of all that a token sees, first."""
    rows = [row for row in result.rows if row["sink_share"] is not None]
    for row in sorted(rows, key=lambda row: -float(row["sink_share"] * (row["mass"] or 0))):
        yield row["layer"], row["kv_head"]


RANKED: dict[str, Callable[[Result], Iterator[Head]]] = {
    "best": best_heads,
    "localization": localization_heads,
    "sinks": sink_heads,
}
