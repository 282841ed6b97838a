"""What the viewer answers, by the name of what is asked for; to a server and a notebook alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from kvtool._version import __version__
from kvtool.errors import KvtoolError, UsageError
from kvtool.store import Run
from kvtool.viewer.nearest import NearestPatches
from kvtool.viewer.pictures import Pictures
from kvtool.viewer.questions import Questions
from kvtool.viewer.replies import Reply, ViewRequest
from kvtool.viewer.truth import pairs_record, videos_record
from kvtool.viewer.vectors import block_reply, maps_reply
from kvtool.viewer.viewed_run import ViewedRun

Answer = Callable[[ViewRequest], Reply]


@dataclass
class Viewer:
    """Answers what is asked about some runs; nothing is ever written.

    Attributes:
        runs: The runs by the name of their store, and their own.
        data: The places of data sets, by name, if they moved.
        questions: What answers questions.
        look: Returns the runs that the stores hold by now; without it they stay.
    """

    runs: Mapping[tuple[str, str], Run]
    data: Mapping[str, str | Path] = field(default_factory=dict)
    questions: Questions = field(default_factory=lambda: Questions(None))
    look: Callable[[], Mapping[tuple[str, str], Run]] | None = None
    pictures: Pictures = field(default_factory=Pictures)
    nearest: NearestPatches = field(default_factory=NearestPatches)
    _viewed: dict[tuple[str, str], ViewedRun] = field(default_factory=dict)

    def answer(self, resource: str, texts: Mapping[str, str]) -> Reply:
        """Return the answer to a request. Raises KvtoolError, UsageError for one that is off."""
        answer = self._answers.get(resource)
        if answer is None:
            raise UsageError(f"viewer: expected one of {', '.join(self._answers)}, found another")
        try:
            return answer(ViewRequest(texts))
        except OSError as error:
            # A store may change while it is read: files of a run that is removed are gone.
            problem = error.strerror or type(error).__name__
            raise KvtoolError(f"viewer: expected a file of the store, found {problem}") from error

    @cached_property
    def _answers(self) -> dict[str, Answer]:
        """What answers each request."""
        return {
            "catalog": lambda _: Reply.of_json(self.catalog()),
            "run": lambda request: Reply.of_json(self._run(request).record()),
            "image": lambda request: Reply.of_json(
                self._run(request).image_record(request.text("image"))
            ),
            "block": lambda request: block_reply(self._run(request), request),
            "maps": lambda request: maps_reply(self._run(request), request),
            "picture": lambda request: self.pictures.whole(self._run(request), request),
            "piece": lambda request: self.pictures.piece(self._run(request), request),
            "scores": self._scores,
            "pairs": lambda request: Reply.of_json(pairs_record(self._run(request))),
            "videos": lambda request: Reply.of_json(videos_record(self._run(request))),
            "nearest": lambda request: Reply.of_json(
                self.nearest.record(self._run(request), request)
            ),
            "features": self._features,
            "question": lambda request: Reply.of_json(
                self.questions.answer(self._run(request), request)
            ),
            "attention": lambda request: self.questions.attention(self._run(request), request),
        }

    def _scores(self, request: ViewRequest) -> Reply:
        # Imported when they are asked for: what writes numbers is not needed before the first map.
        from kvtool.viewer.scores import scores_record

        return Reply.of_json(scores_record(self._run(request)))

    def _features(self, request: ViewRequest) -> Reply:
        from kvtool.viewer.scores import features_record

        return Reply.of_json(features_record(self._run(request), request.text("image")))

    def refresh(self) -> None:
        """Look again for runs: new ones are shown, those that are gone are not any more. A run that
        is the same stays with what was read of it. Raises KvtoolError where none is left.
        """
        if self.look is None:
            return
        latest = self.look()
        for key in set(self._viewed) - set(latest):
            self._viewed.pop(key, None)
        # A run of the same name with other settings is another one.
        for key, run in latest.items():
            before = self.runs.get(key)
            if before is not None and before.config.hash != run.config.hash:
                self._viewed.pop(key, None)
        self.runs = {
            key: self._viewed[key].run if key in self._viewed else run
            for key, run in latest.items()
        }

    def catalog(self) -> dict[str, Any]:
        """Return the runs that there are now, and what the viewer can do with them."""
        self.refresh()
        return {
            "version": __version__,
            "model": self.questions.model,
            "runs": [
                {
                    "store": store,
                    "run": name,
                    "model": run.config.model.name,
                    "dataset": run.config.dataset,
                    "prefix": run.config.prefix,
                }
                for (store, name), run in self.runs.items()
            ],
        }

    def _run(self, request: ViewRequest) -> ViewedRun:
        """Return the run that is meant: names are looked up, never followed. Raises UsageError."""
        store, name = request.text("store"), request.text("run")
        run = self.runs.get((store, name))
        if run is None:
            raise UsageError(f"run: expected one of the {len(self.runs)} runs, found {name!r}")
        if (store, name) not in self._viewed:
            self._viewed[store, name] = ViewedRun(run, self.data.get(run.config.dataset))
        return self._viewed[store, name]


def runs_by_name(runs: Sequence[tuple[Path, Run]]) -> dict[tuple[str, str], Run]:
    """Return runs by the name of their store's folder and their own; a second store of the same
    name is numbered.
    """
    names: dict[Path, str] = {}
    by_name: dict[tuple[str, str], Run] = {}
    for path, run in runs:
        folder = path.absolute()
        if folder not in names:
            n_alike = sum(name.partition("~")[0] == folder.name for name in names.values())
            names[folder] = f"{folder.name}~{n_alike + 1}" if n_alike else folder.name
        by_name[names[folder], run.name] = run
    return by_name
