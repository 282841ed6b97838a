"""A result as a figure for print: PNG, SVG or PDF, drawn from the result alone."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from kvtool.errors import KvtoolError, UsageError
from kvtool.outputs import check_output, write_output
from kvtool.registry import EXPERIMENTS, experiment_part, has_part
from kvtool.result import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")
DPI = 300


def plot(result: Result, path: str | Path) -> None:
    """Write the figure of a result; the end of the name says the format, and an existing file is
    replaced.

    The same result gives the same bytes, with one version of matplotlib, whose settings and backend
    stay as they are. Raises UsageError for another format, a folder, and commands without a figure;
    KvtoolError where there is nothing to draw or the file cannot be written.
    """
    from matplotlib import rc_context

    from kvtool.reporting.plots.style import parameters

    path = check(path)
    with rc_context(parameters()):
        result_figure = figure(result)
        # Neither a date nor a version: files of equal results are equal.
        metadata = {
            "png": {"Software": None},
            "svg": {"Date": None, "Creator": None},
            "pdf": {"CreationDate": None},
        }
        format = suffix(path)
        data = BytesIO()
        result_figure.savefig(data, format=format, dpi=DPI, metadata=metadata[format])
    write_output(path, data.getvalue(), "--plot")


def figure(result: Result) -> Figure:
    """Return the figure of a result, under matplotlib's present settings. Raises the errors of
    plot."""
    part = experiment_part(result.command, "plot")
    if part is None:
        commands = ", ".join(name for name in EXPERIMENTS.usable() if has_part(name, "plot"))
        raise UsageError(
            f"--plot: {result.command} has no figure; commands that have one: {commands}"
        )
    if not result.rows:
        raise KvtoolError(f"--plot: expected a result with rows, found a {result.command} of none")
    result_figure: Figure = part.draw(result)
    return result_figure


def check(path: str | Path) -> Path:
    """Check a plot's path. Raises UsageError for a folder, a missing folder and an unknown
    format."""
    path = Path(path)
    if suffix(path) not in FORMATS:
        raise UsageError(
            f"--plot: expected a name that ends in .{', .'.join(FORMATS)}; found {path}"
        )
    return check_output(path, "--plot")


def suffix(path: Path) -> str:
    """Return 'png' for plot.PNG."""
    return path.suffix.removeprefix(".").lower()
