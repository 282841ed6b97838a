"""A stand-in for the Hugging Face hub: a folder for each data set, a copy of it for each commit.

It stands where huggingface_hub talks to the network; what is passed must be what the real functions
take, and patterns are matched by huggingface_hub itself.
"""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils._paths import filter_repo_objects

REAL = {
    name: getattr(huggingface_hub.HfApi, name)
    for name in ("create_repo", "dataset_info", "file_exists", "upload_folder")
}
REAL_DOWNLOAD = huggingface_hub.snapshot_download


def http_error(kind: type[Any], status: int) -> Any:
    """An error as the hub's client raises it for a status of an answer."""
    return kind(f"{status}: an answer\nof several lines", response=answer(status))


def answer(status: int) -> Any:
    return SimpleNamespace(status_code=status, headers={}, request=None)


@dataclass
class FakeHub:
    """The hub.

    Attributes:
        root: Where its data sets lie.
        private: Which data sets there are, and whether they are private.
        downloads: The files that were downloaded, in order.
        failure: What is raised in place of an answer, if anything.
    """

    root: Path
    private: dict[str, bool] = field(default_factory=dict)
    downloads: list[str] = field(default_factory=list)
    failure: Exception | None = None

    def commits(self, repo: str) -> list[Path]:
        """The folders of the commits of a data set, the newest last."""
        return sorted((self.root / repo).iterdir())

    def head(self, repo: str = "acme/study") -> Path:
        return self.commits(repo)[-1]

    def bind(self, name: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """What a call passes to the real function by name. Raises TypeError for what it does not
        take.
        """
        if self.failure is not None:
            raise self.failure
        bound = inspect.signature(REAL[name]).bind(None, *args, **kwargs)
        return bound.arguments

    def create_repo(self, *args: Any, **kwargs: Any) -> None:
        call = self.bind("create_repo", *args, **kwargs)
        assert call["exist_ok"]
        assert call["repo_type"] == "dataset"
        if call["repo_id"] not in self.private:
            self.private[call["repo_id"]] = call["private"]
            (self.root / call["repo_id"] / "0000").mkdir(parents=True)

    def dataset_info(self, *args: Any, **kwargs: Any) -> Any:
        call = self.bind("dataset_info", *args, **kwargs)
        if call["repo_id"] not in self.private:
            raise http_error(RepositoryNotFoundError, 401)
        names = [path.name for path in self.commits(call["repo_id"])]
        revision = call.get("revision") or "main"
        commit = names[-1] if revision == "main" else revision
        if commit not in names:
            raise http_error(RevisionNotFoundError, 404)
        return SimpleNamespace(sha=commit, private=self.private[call["repo_id"]])

    def file_exists(self, *args: Any, **kwargs: Any) -> bool:
        call = self.bind("file_exists", *args, **kwargs)
        path: Path = self.head(call["repo_id"]) / call["filename"]
        return path.is_file()

    def upload_folder(self, *args: Any, **kwargs: Any) -> Any:
        call = self.bind("upload_folder", *args, **kwargs)
        head = self.head(call["repo_id"])
        commit = head.with_name(f"{int(head.name) + 1:04d}")
        shutil.copytree(head, commit)
        source, target = Path(call["folder_path"]), commit / (call.get("path_in_repo") or "")
        for name in filter_repo_objects(files_in(source), ignore_patterns=call["ignore_patterns"]):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / name, target / name)
        return SimpleNamespace(oid=commit.name)

    def snapshot_download(self, *args: Any, **kwargs: Any) -> str:
        if self.failure is not None:
            raise self.failure
        call = inspect.signature(REAL_DOWNLOAD).bind(*args, **kwargs).arguments
        commit = self.root / call["repo_id"] / call["revision"]
        patterns = {name: call[name] for name in ("allow_patterns", "ignore_patterns")}
        for name in filter_repo_objects(files_in(commit), **patterns):
            path = Path(call["local_dir"]) / name
            if not path.exists():  # as the real one, it goes on
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(commit / name, path)
                self.downloads.append(name)
        return str(call["local_dir"])


def files_in(folder: Path) -> Sequence[str]:
    """The files below a folder, by their paths in it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def fake_hub(monkeypatch: pytest.MonkeyPatch, root: Path) -> FakeHub:
    """Let huggingface_hub lead to folders, for somebody who is logged in."""
    hub = FakeHub(root)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda **_: hub)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_token")
    return hub


def study_on_hub(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let the hub be a folder, where the folder's store lies as hf://datasets/acme/study."""
    from kvtool.store import open_store
    from kvtool.store.hub import push

    fake_hub(monkeypatch, folder / "hub")
    push(open_store(folder / "study.kv"), "hf://datasets/acme/study")
