"""A store under every order of what people and processes do to it, as a hypothesis state machine.

Writers are forked processes that die, or stop, at the n-th system call that they make in the store,
so that an end at each moment is drawn as a number and shrinks to the first one that matters.
"""

from __future__ import annotations

import os
import shutil
import signal
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kvtool.errors import BusyError
from kvtool.store import Run, Store, open_store
from kvtool.store.verify import verify
from tests.campaign.checks import check_parts, is_leftover
from tests.campaign.children import DONE, REFUSED, Child, Report
from tests.campaign.clock import Clock
from tests.campaign.extraction import CONFIG, IMAGES, PART_SIZE, part_names
from tests.campaign.syscalls import Call, watched_calls
from tests.campaign.tally import Tally
from tests.support.runs import commit, create_run

SECONDS = (-1e6, -3600.0, -90.0, 90.0, 3600.0, 1e6)
PARTS = st.integers(0, len(part_names()) - 1)
CALLS = st.integers(1, 260)
KEYS = st.sampled_from(("a", "b"))


def signalled(
    path: Path, number: int, ending: signal.Signals, work: Callable[[Report], object]
) -> Child:
    """A process that runs `work(report)` and gets a signal at its n-th call in the store."""
    calls = 0

    def hook(call: Call) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), ending)
        return call.run()

    def watched(report: Report) -> None:
        with watched_calls(path, hook):
            work(report)

    return Child(watched)


class StoreMachine(RuleBasedStateMachine):
    """A store at `path`, where nothing is yet.

    reported: parts whose commit returned. results: what each key may hold. stopped: writers that
    stand still, and the part of each. claims: those that this process holds, by part.
    """

    path: Path

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.reported: set[str] = set()
        self.results: dict[str, set[int | None]] = {"a": {None}, "b": {None}}
        self.stopped: list[tuple[Child, int]] = []
        self.claims: dict[int, AbstractContextManager[Any]] = {}

    @initialize()
    def create(self) -> None:
        self.run()

    def store(self) -> Store:
        return open_store(self.path, create=True)

    def run(self) -> Run:
        return create_run(self.store(), CONFIG)

    def commit(self, part: int, report: Report = lambda _: None) -> None:
        commit(self.run(), IMAGES[part * PART_SIZE : (part + 1) * PART_SIZE], part_names()[part])
        report(part_names()[part])

    def claim_and_commit(self, part: int, report: Report) -> None:
        with self.run().claim(part_names()[part]):
            self.commit(part, report)

    @rule(part=PARTS)
    def commit_unclaimed(self, part: int) -> None:
        """Commits are safe without a claim."""
        self.commit(part)
        self.reported.add(part_names()[part])

    @rule(part=PARTS)
    def commit_claimed(self, part: int) -> None:
        """A claim is refused exactly where a living process has it."""
        holders = {claimed for _, claimed in self.stopped} | self.claims.keys()
        try:
            self.claim_and_commit(part, self.reported.add)
        except BusyError:
            assert part in holders, f"part {part} is held by nobody"
        else:
            assert part not in self.claims, f"two hold part {part}"

    @rule(part=PARTS)
    def claim(self, part: int) -> None:
        if part not in self.claims:
            context = self.run().claim(part_names()[part])
            try:
                context.__enter__()
            except BusyError:
                assert part in {claimed for _, claimed in self.stopped}, (
                    f"part {part} is held by nobody"
                )
            else:
                self.claims[part] = context

    @precondition(lambda self: self.claims)
    @rule()
    def release(self) -> None:
        _, context = self.claims.popitem()
        context.__exit__(None, None, None)

    @rule(part=PARTS, number=CALLS)
    def kill_a_writer(self, part: int, number: int) -> None:
        child = signalled(
            self.path, number, signal.SIGKILL, lambda report: self.claim_and_commit(part, report)
        )
        self._end(child)

    @precondition(lambda self: len(self.stopped) < 2)
    @rule(part=PARTS, number=CALLS)
    def stop_a_writer(self, part: int, number: int) -> None:
        child = signalled(
            self.path, number, signal.SIGSTOP, lambda report: self.claim_and_commit(part, report)
        )
        if child.stopped():
            self.stopped.append((child, part))
        else:
            self._end(child)

    @precondition(lambda self: self.stopped)
    @rule()
    def let_it_go_on(self) -> None:
        child, _ = self.stopped.pop(0)
        os.kill(child.pid, signal.SIGCONT)
        self._end(child)

    @precondition(lambda self: self.stopped)
    @rule()
    def kill_a_stopped_one(self) -> None:
        self._end(self.stopped.pop(0)[0], signal.SIGKILL)

    def _end(self, child: Child, ending: signal.Signals | None = None) -> None:
        outcome = child.kill() if ending else child.wait()
        self.reported |= set(outcome.reports)
        assert outcome.code in (DONE, REFUSED, BusyError.exit_code, -signal.SIGKILL), outcome.error

    @rule(key=KEYS, value=st.integers(0, 3))
    def save_result(self, key: str, value: int) -> None:
        self.store().save_result(key, {"value": value})
        self.results[key] = {value}

    @rule(key=KEYS, value=st.integers(0, 3), number=st.integers(1, 40))
    def kill_while_saving(self, key: str, value: int, number: int) -> None:
        def save(report: Report) -> None:
            self.store().save_result(key, {"value": value})
            report(value)

        outcome = signalled(self.path, number, signal.SIGKILL, save).wait()
        self.results[key] = {value} if outcome.reports else self.results[key] | {value}

    @rule(number=CALLS)
    def kill_while_sweeping(self, number: int) -> None:
        self._end(signalled(self.path, number, signal.SIGKILL, lambda _: self.store().sweep_tmp()))

    @rule()
    def sweep(self) -> None:
        self.store().sweep_tmp()

    @rule()
    def remove_the_run(self) -> None:
        """A run that a living process works on is not removed."""
        try:
            self.store().remove_run(CONFIG.name)
        except BusyError:
            assert self.claims or self.stopped, "nobody works on it"
        else:
            assert not self.claims, "a run that is worked on was removed"
            self.reported.clear()
            while (
                self.stopped
            ):  # their claims were not yet there: what they commit from now on is another story
                self._end(self.stopped.pop(0)[0], signal.SIGKILL)
            self.reported.clear()
        self.run()

    @rule(seconds=st.sampled_from(SECONDS))
    def clock_jumps(self, seconds: float) -> None:
        self.clock.offset_s += seconds

    @invariant()
    def readers_see_only_what_is_right(self) -> None:
        if not self.path.exists():
            return
        tally = Tally("machine")
        store = open_store(self.path)
        check_parts(store.run(CONFIG.name), self.reported, tally, "run")
        assert tally.clean, tally.notes
        for key, values in self.results.items():
            result = store.load_result(key)
            assert (result and result["value"]) in values, (
                f"result {key}: {result}, expected one of {values}"
            )
        problems = [problem for problem in verify(store) if not is_leftover(problem)]
        assert not problems, problems

    def teardown(self) -> None:
        try:
            while self.claims:
                self.release()
            while self.stopped:
                self.kill_a_stopped_one()
            self.sweep_leaves_nothing()
        finally:
            self.clock.stop()
            shutil.rmtree(self.path.parent)

    def sweep_leaves_nothing(self) -> None:
        """After a sweep verify is clean, and what was missing can be committed."""
        if not self.path.exists():
            return
        run = self.run()
        assert verify(self.store()) == []
        assert [path.name for path in (self.path / "tmp").iterdir()] == ["zarr.json"]
        for part in range(len(part_names())):
            with run.claim(part_names()[part]):
                self.commit(part)
        assert run.covered_indices() == {image.index for image in IMAGES}
        self.readers_see_only_what_is_right()


def run(folder: Path, examples: int, steps: int) -> list[Tally]:
    """This many histories of at most `steps` steps; a failure is counted as wrong, with its
    history.
    """
    tally = Tally("machine: histories of a store")

    class Counted(StoreMachine):
        def __init__(self) -> None:
            super().__init__()
            self.path = folder / f"history{tally.tried}" / "small.kv"
            self.path.parent.mkdir()
            tally.tried += 1

    try:
        run_state_machine_as_test(
            Counted,
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                database=None,
                derandomize=True,
                report_multiple_bugs=False,
                phases=(Phase.generate, Phase.shrink),
                suppress_health_check=list(HealthCheck),
            ),
        )
    except Exception as error:  # noqa: BLE001  it names what broke and how to come there
        tally.count("wrong", "".join(traceback.format_exception(error)))
    return [tally]
