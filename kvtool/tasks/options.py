"""The options of perception tasks: each task declares its own, and the flags of commands are made
of them.

An option is a keyword-only parameter of a task's class. Its annotation says what its flag is:

    shots: Annotated[int, Flag("Support images of an episode.")] = 5
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from inspect import Parameter, signature
from typing import Any, Literal, get_args, get_origin

from kvtool.bounds import BOUNDS
from kvtool.errors import UsageError
from kvtool.tasks import TASKS

COMMON = {"limit", "seed", "select"}
"""Options that every task is given, whether it takes them or not."""

TYPES = (bool, int, float, str)


@dataclass(frozen=True)
class Flag:
    """What the command line says of an option.

    help: a sentence; the task's name and the default are added. low, high: of a number, where
    kvtool.bounds has none under the option's name. hidden: values of a Literal that the flag does
    not offer.
    """

    help: str
    low: float | None = None
    high: float | None = None
    hidden: tuple[str, ...] = ()


@dataclass(frozen=True)
class Option:
    """An option of one task or more. type: bool, int, float, str or a Literal of texts."""

    name: str
    type: Any
    default: Any
    flag: Flag
    tasks: tuple[str, ...]

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """The lowest and the highest value; None where there is none."""
        return BOUNDS.get(self.name, (self.flag.low, self.flag.high))

    def check(self, value: Any) -> None:
        """Raises UsageError for a number that is out of the option's own bounds, or not finite."""
        low, high = self.bounds
        if self.type not in (int, float) or self.name in BOUNDS:
            return  # kvtool.bounds checks its names for every function
        # A missing bound is no bound.
        ends = -math.inf if low is None else low, math.inf if high is None else high
        if (
            not isinstance(value, int | float)
            or not math.isfinite(value)
            or not ends[0] <= value <= ends[1]
        ):
            raise UsageError(
                f"{self.name}: expected a number from {ends[0]:g} to {ends[1]:g}, found {value!r}"
            )


def task_options(task: str) -> dict[str, Option]:
    """A task's own options by name, in the order of its class.

    Raises UsageError where one is not declared well.
    """
    kind = TASKS.load(task)
    common = {"dataset", "ids", "device", *COMMON}
    parameters = signature(kind).parameters.values()
    return {
        parameter.name: _option(task, kind, parameter)
        for parameter in parameters
        if parameter.name not in common
    }


def options_of_all(tasks: Iterable[str]) -> dict[str, Option]:
    """The options of several tasks; a name that two of them have is one option.

    Raises UsageError where they do not agree on its type.
    """
    options: dict[str, Option] = {}
    # One flag of the command line serves all tasks that have an option of this name.
    for task in tasks:
        for name, option in task_options(task).items():
            first = options.setdefault(name, replace(option, tasks=()))
            if first.type != option.type:
                raise UsageError(
                    f"task {task}: option {name}: expected the type that {first.tasks[0]} gives "
                    "it, "
                    f"{_type_name(first.type)}, found {_type_name(option.type)}; choose another "
                    "name"
                )
            options[name] = replace(first, tasks=(*first.tasks, task))
    return options


def check_values(task: str, values: Mapping[str, Any]) -> None:
    """Check values of a task's own options. Raises UsageError."""
    for name, option in task_options(task).items():
        if values.get(name) is not None:
            option.check(values[name])


def _option(task: str, kind: Any, parameter: Parameter) -> Option:
    """The option that a keyword-only parameter declares."""
    annotation = parameter.annotation
    if isinstance(annotation, str):  # the module has `from __future__ import annotations`
        # Its names are those of the module that declares the parameter, perhaps a base class's.
        module = vars(sys.modules[kind.__module__])
        annotation = eval(annotation, getattr(kind.__init__, "__globals__", module))
    base, *metadata = get_args(annotation) if hasattr(annotation, "__metadata__") else (annotation,)
    flag = next((item for item in metadata if isinstance(item, Flag)), None)
    is_choice = get_origin(base) is Literal
    if flag is None or parameter.default is Parameter.empty or not (base in TYPES or is_choice):
        raise UsageError(
            f"task {task}: option {parameter.name}: expected Annotated[TYPE, Flag(...)] with a "
            "default and a type of "
            f"bool, int, float, str or Literal, found {parameter}"
        )
    return Option(parameter.name, base, parameter.default, flag, (task,))


def _type_name(option_type: Any) -> str:
    return getattr(option_type, "__name__", None) or str(option_type)
