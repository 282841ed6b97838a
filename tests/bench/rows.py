"""One line of the benchmark table, both sides measured in the same run."""

from __future__ import annotations

from typing import Literal, TypedDict


class Row(TypedDict):
    """`ratio` is ours / peer, `target` its bound, `better` the direction that is good."""

    name: str
    unit: str
    ours: float
    peer: float
    ratio: float
    target: float
    better: Literal["higher", "lower"]


def row(
    name: str,
    unit: str,
    ours: float,
    peer: float,
    target: float,
    better: Literal["higher", "lower"] = "higher",
) -> Row:
    return Row(
        name=name, unit=unit, ours=ours, peer=peer, ratio=ours / peer, target=target, better=better
    )


def met(row: Row) -> bool:
    return (
        row["ratio"] >= row["target"]
        if row["better"] == "higher"
        else row["ratio"] <= row["target"]
    )
