"""Folders with what the examples of `kvtool score` name."""

from __future__ import annotations

import json
import shutil
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.support import datasets

GOLDEN = Path(__file__).parents[1] / "golden"


class ScoreWorkspaces:
    """Makes a folder for each benchmark, below `root`."""

    root: Path

    def _new(self, name: str) -> Path:
        folder = self.root / name
        folder.mkdir()
        return folder

    @cached_property
    def score_davis(self) -> Path:
        folder = datasets.golden("davis_tree_a.zip", self._new("davis"))
        shutil.move(folder / "results", folder / "masks")
        return folder

    @cached_property
    def score_imagenet_s(self) -> Path:
        folder = self._new("imagenet-s")
        data = datasets.golden("imagenets_a.zip", folder / "ImageNetS")
        shutil.move(data / "predict", folder / "maps")
        return folder

    @cached_property
    def score_bdd10k(self) -> Path:
        folder = datasets.golden("bdd_a.zip", self._new("bdd10k"))
        shutil.move(folder / "gt", folder / "bdd100k")
        shutil.move(folder / "pred", folder / "maps")
        return folder

    @cached_property
    def score_spair(self) -> Path:
        folder = self._new("spair")
        record = json.loads((GOLDEN / "pck_float_a.json").read_text())
        write_lines(folder / "keypoints.jsonl", record["pairs"])
        return folder

    @cached_property
    def score_pope(self) -> Path:
        folder = self._new("pope")
        record = json.loads((GOLDEN / "pope_a.json").read_text())
        questions = record["files"][0]["items"]
        labels = [{"label": question["label"]} for question in questions]
        write_lines(folder / "questions.jsonl", labels)
        write_lines(folder / "answers.jsonl", [{"answer": q["answer"]} for q in questions])
        for name in ("random", "popular"):
            write_lines(folder / f"{name}.jsonl", questions)
        return folder

    @cached_property
    def score_mme(self) -> Path:
        folder = self._new("mme")
        datasets.golden("mme_lavin_a.zip", folder / "answers")
        return folder


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
