"""Whether a run and its questions suffice for a paired task."""

from __future__ import annotations

from collections.abc import Sequence

from kvtool.asking.paired.questions import HIDDEN_ANSWER, NOT_HELD, PairedQuestions
from kvtool.asking.paired.tasks import PairedTask
from kvtool.display import shell_path
from kvtool.errors import UsageError
from kvtool.store import Run
from kvtool.tasks.blocks import BASELINES
from kvtool.types import Kind


def check_questions(
    questions: PairedQuestions, run: Run, task: PairedTask, select: str, command: str = "paired"
) -> None:
    """Check that enough questions remain. Raises UsageError that names the command."""
    if not questions.questions:
        reason = _none_left(run, task, questions.left_out.lines)
        raise UsageError(f"{command} {task.name}: {reason}")
    if select == "split" and len(questions.questions) < 2:
        raise UsageError(
            f"{command} {task.name}: --select split: expected two questions or more, found one; "
            "use max"
        )


def default_kinds(run: Run) -> list[Kind]:
    """Return values, and the baselines beside them. Raises UsageError for a run without values."""
    if "value" not in run.config.kinds:
        raise UsageError(
            f"run {run.name}: expected values, found {', '.join(run.config.kinds)}; extract with "
            "--kinds value among them, or name stored kinds with --kinds"
        )
    return ["value", *(kind for kind in BASELINES if kind in run.config.kinds)]


def _none_left(run: Run, task: PairedTask, skipped: Sequence[str]) -> str:
    """Say why no question remains, and what to extract."""
    what = f"questions of {task.subset}" if task.subset else "questions with choices"
    if task.name == "semantic-correspondence":
        what = "pairs with four common keypoints"
    reason = f" ({skipped[0]}, ...)" if skipped else ""
    # Each cause has its own remedy: hidden answers, faulty files, or pictures not extracted.
    if skipped and all(line.endswith(HIDDEN_ANSWER) for line in skipped):
        return f"expected {what} with public answers, found them hidden{reason}; use another split"
    if skipped and not any(NOT_HELD in line for line in skipped):
        return (
            f"expected {what} that can be asked, found none{reason}; "
            f"{'mend them' if run.config.dataset == 'own' else 'use the official files'}"
        )
    return (
        f"expected {what} about images that run {run.name} holds, found "
        f"none{reason}; extract them: kvtool extract {shell_path(run.address)} --model M --dataset "
        f"{task.spec_over(run.config.dataset)}"
    )
