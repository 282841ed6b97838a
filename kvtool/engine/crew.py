"""A crew: several workers at one call of a command, each on a device of its own.

The workers are told nothing of each other. Each makes the whole call in a process of its own, or as
a task of a Ray cluster, does the chunks that nobody else holds (kvtool.store.shares) and waits for
those of others. The caller makes the call too, up to the first chunk that lacks: there it lets the
crew work, and then goes on, with everything in the store. So a result that is kept starts no
worker, and what is wrong with the request is said before one starts.

A command needs no code of its own for that but its parameters `devices` and `engine` and the line
`@crewed(...)`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial, wraps
from importlib import import_module
from inspect import Parameter, signature
from typing import Any, ParamSpec, TypeVar

from kvtool.bounds import BOUNDS
from kvtool.engine.crew_progress import CrewProgress
from kvtool.engine.processes import Tell
from kvtool.engine.travel import received, sent, store_folders
from kvtool.engine.workers import Hands, check_engine, run_workers
from kvtool.errors import BusyError, UnfinishedError, UsageError
from kvtool.models.device_names import AUTO, worker_devices
from kvtool.progress import called
from kvtool.store.shares import within

Devices = str | Sequence[str] | None
"""Devices, a worker each, "cuda:0,cuda:1" or one by one; None for that of `device`."""
Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")

FOREVER_S = BOUNDS["wait_s"][1]
"""How long a worker waits for the others: until its caller ends it."""
LEAST_IDLE_S = 3.0
"""How long all workers wait at least before the crew is over: what one has just ended, another may
not have seen yet.
"""


@dataclass(frozen=True)
class Advanced:
    """What a worker tells of its progress, as kvtool.progress.Advance takes it."""

    n: int
    note: str = ""
    total: int | None = None


@dataclass(frozen=True)
class Begun:
    """A worker tells that it begins, once more where the node of its first attempt is lost."""


@dataclass(frozen=True)
class Rest:
    """A worker tells whether it waits for chunks in other hands."""

    is_idle: bool


@dataclass(frozen=True)
class Done:
    """A worker tells that it did a chunk."""

    name: str


@dataclass(frozen=True)
class Call:
    """A call of a public function, as plain data that travels to workers.

    Attributes:
        module: The function's module.
        name: The function's name in it.
        arguments: All arguments by name, but those that each worker has its own of.
    """

    module: str
    name: str
    arguments: Mapping[str, Any]

    def work(self, device: str, tell: Tell) -> None:
        """Make the call on a device: do what nobody else holds, and wait for the others."""
        function = getattr(import_module(self.module), self.name)
        arguments = received(self.arguments)
        changes = {"device": device, "wait_s": FOREVER_S, "progress": partial(_advance, tell)}
        # Where others hold the rest, the caller says who they are.
        with _silent(), within(_WorkersCrew(tell)), suppress(BusyError):
            function(**arguments, **changes)
        tell(Rest(True))


def _advance(tell: Tell, n: int, note: str = "", total: int | None = None) -> None:
    """Tell an advance."""
    tell(Advanced(n, note, total))


@contextmanager
def _silent() -> Iterator[None]:
    """Leave notes to the caller, who makes the same call and says them once."""
    log = logging.getLogger("kvtool")
    # With a handler of its own the log is not passed to logging's last resort either.
    handler = logging.NullHandler()
    before = log.propagate
    log.addHandler(handler)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = before


class _WorkersCrew:
    """The crew as a worker sees it: nobody works for it, and it tells when it waits."""

    def __init__(self, tell: Tell) -> None:
        self.tell = tell
        self.is_idle = False
        tell(Begun())

    def work(self) -> Sequence[str] | None:
        """There is nobody to let work."""
        return None

    def rest(self, is_idle: bool) -> None:
        """Tell where that changed."""
        if is_idle != self.is_idle:
            self.is_idle = is_idle
            self.tell(Rest(is_idle))

    def did(self, name: str) -> None:
        """Tell of a chunk."""
        self.tell(Done(name))

    def end(self) -> None:
        """Leave the result to the caller."""
        raise UnfinishedError("all chunks are done: the caller gives the result")


@dataclass
class CallersCrew:
    """The crew as its caller sees it.

    Attributes:
        call: What the workers do.
        hands: The workers.
        wait_s: How long they wait for processes that are none of theirs.
        progress: What they tell of.
        names: Of the chunks that they did; None before they worked.
    """

    call: Call
    hands: Hands
    wait_s: float
    progress: CrewProgress
    names: list[str] | None = None
    _idle: set[int] = field(default_factory=set)
    _idle_since_s: float = 0.0

    def work(self) -> Sequence[str] | None:
        """Let the workers do what lacks, once. Raises what one of them raised."""
        if self.names is not None:
            return None
        # Set before the workers start: a second call of this function must not start them again.
        self.names = []
        stores = store_folders(self.call.arguments)
        run_workers(self.hands.gathered(), self.call.work, self._hear, stores, self._is_over)
        return self.names

    def rest(self, is_idle: bool) -> None:
        """The caller waits for nobody of its crew: all of them have ended by then."""

    def did(self, name: str) -> None:
        """What the caller does itself, its share knows."""

    def end(self) -> None:
        """The caller gives the result."""

    def _hear(self, worker: int, message: Any) -> None:
        """Take what a worker tells."""
        match message:
            case Advanced():
                self.progress.advance(worker, message.n, message.note, message.total)
            case Done():
                assert self.names is not None
                self.names.append(message.name)
            case Begun():
                # The attempt before may have waited, and what it counted is counted anew.
                self._idle.discard(worker)
                self.progress.begin(worker)
            case Rest(is_idle=True):
                self._idle.add(worker)
                self._idle_since_s = time.monotonic()
            case Rest():
                self._idle.discard(worker)

    def _is_over(self, workers: AbstractSet[int]) -> bool:
        """Return whether all workers that live wait, hence for others than themselves, for longer
        than they are to.
        """
        # Idle workers wait for each other only for a moment; longer means for processes outside.
        idle_s = time.monotonic() - self._idle_since_s
        return workers <= self._idle and idle_s > max(self.wait_s, LEAST_IDLE_S)


def crewed(
    *aside: str, ready: Callable[[dict[str, Any]], None] | None = None
) -> Callable[[Callable[Parameters, Returned]], Callable[Parameters, Returned]]:
    """Return what gives a public function its crew: it is called as before, and its parameters
    `devices` and `engine` are done with before it begins.

    Args:
        aside: Parameters that are the caller's alone, as files to write.
        ready: Makes arguments fit to be used several times and to travel.
    """

    def decorate(function: Callable[Parameters, Returned]) -> Callable[Parameters, Returned]:
        @wraps(function)
        def call(*args: Parameters.args, **options: Parameters.kwargs) -> Returned:
            """Call the function, with a crew where several devices are named."""
            # The crew's parameters end here: the function itself knows one device.
            arguments = _by_name(function, args, options)
            cpus = arguments.pop("cpus_per_worker", 1)
            engine = check_engine(arguments.pop("engine", "local"), cpus)
            devices = chosen_devices(arguments.pop("devices", None), arguments.get("device", AUTO))
            run: Callable[..., Returned] = function
            if engine == "local" and len(devices) == 1:
                return run(**arguments | {"device": devices[0]})
            # A fresh call computes all anew, so that workers could not share out the chunks.
            if arguments.get("fresh"):
                raise UsageError(
                    f"fresh: expected one device beside it, found {len(devices)} workers, who "
                    "take from each other what is kept; leave it out, or name one device"
                )
            if ready is not None:
                ready(arguments)
            crew = _crew(function, arguments, aside, Hands(devices, engine, cpus))
            # The caller waits for nobody: by the time its turn comes, the workers are done.
            changes = {"wait_s": 0.0, "progress": crew.progress.caller}
            changes |= {"device": devices[0] if engine == "local" else AUTO}
            with within(crew):
                return run(**arguments | changes)

        return call

    return decorate


def _by_name(
    function: Callable[..., Any], args: Sequence[Any], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments of a call, all by name."""
    parameters = signature(function)
    # Defaults that were not given stay out, and each worker fills them in itself.
    arguments = dict(parameters.bind(*args, **options).arguments)
    for name, parameter in parameters.parameters.items():
        # Options that a function gathers are given one by one, as when it was called.
        if parameter.kind is Parameter.VAR_KEYWORD:
            arguments |= arguments.pop(name, {})
    return arguments


def _crew(
    function: Callable[..., Any],
    arguments: Mapping[str, Any],
    aside: Sequence[str],
    hands: Hands,
) -> CallersCrew:
    """Return the crew for a call of a function."""
    # Each worker has its own device, its own patience and its own progress.
    absent = {"device", "wait_s", "progress", *aside}
    travelling = {name: sent(value) for name, value in arguments.items() if name not in absent}
    return CallersCrew(
        Call(function.__module__, function.__name__, travelling),
        hands,
        arguments.get("wait_s", 0.0),
        CrewProgress(called(arguments.get("progress"))),
    )


def chosen_devices(devices: Devices, device: str) -> tuple[str, ...]:
    """Return the devices of a call, a worker each. Raises UsageError where both parameters name
    some, and for unknown names.
    """
    if devices is None:
        return (device,)
    if device != AUTO:
        raise UsageError("devices: expected no device beside it, found both; name one of them")
    names = devices if isinstance(devices, str) else ",".join(devices)
    return worker_devices(names)
