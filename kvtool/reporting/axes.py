"""Scales of charts: from data to pixels or percent, with round numbers on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDE_RANGE = 20
"""A logarithmic axis is drawn where the largest number is so many times the smallest."""


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: its position and its text."""

    position: float
    text: str


def share_of(value: float, low: float, high: float, logarithmic: bool) -> float:
    """Return the place of a value between low and high, 0 to 1."""
    if logarithmic and low > 0:
        value = math.log(value)
        low = math.log(low)
        high = math.log(high)
    return (value - low) / (high - low) if high > low else 0.5


@dataclass(frozen=True)
class Axis:
    """A scale from data to pixels of a chart."""

    low: float
    high: float
    start_px: float
    stop_px: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        share = share_of(value, self.low, self.high, self.logarithmic)
        return round(self.start_px + share * (self.stop_px - self.start_px), 2)

    def ticks(self, count: int = 5, text: str = "g") -> list[Tick]:
        """Return round numbers with their positions."""
        steps = (
            decades(self.low, self.high)
            if self.logarithmic
            else nice_steps(self.low, self.high, count)
        )
        return [Tick(self(step), format(step, text)) for step in steps]


def spans_decades(values: Sequence[float]) -> bool:
    """Tell whether numbers need a logarithmic axis: all are above 0, and some far above others."""
    smallest = min(values, default=0.0)
    return smallest > 0 and max(values) / smallest >= WIDE_RANGE


def with_room(
    values: Sequence[float], start_px: float, stop_px: float, is_logarithmic: bool
) -> Axis:
    """Return an axis of numbers with some room at both ends; logarithmic where it is asked for and
    they need it."""
    low = min(values, default=0.0)
    high = max(values, default=1.0)
    # On a logarithmic axis room is a factor, not a length.
    if is_logarithmic and spans_decades(values):
        factor = (high / low) ** 0.06
        return Axis(low / factor, high * factor, start_px, stop_px, logarithmic=True)
    # No room below zero for measures that have none.
    room = (high - low or 1.0) * 0.06
    bottom = max(low - room, 0.0) if low >= 0 else low - room
    return Axis(bottom, high + room, start_px, stop_px)


def nice_steps(low: float, high: float, count: int) -> list[float]:
    """Return about `count` round numbers from low to high."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def decades(low: float, high: float) -> list[float]:
    """Return powers of ten from low to high; round numbers where there are fewer than two."""
    powers = range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
    return [10.0**power for power in powers] if len(powers) > 1 else nice_steps(low, high, 5)
