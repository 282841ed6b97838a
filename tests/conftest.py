"""Fixtures that several parts share: a tiny real model, small pictures, a shell and a hub's
cache.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.support.scenes import World
from tests.support.shell import Shell, in_this_process

os.environ.setdefault("HF_HUB_OFFLINE", "1")
OWN_CACHE = None
"""The folder for digests that tests remember, where this process made it."""
if "KVTOOL_CACHE" not in os.environ:
    OWN_CACHE = os.environ["KVTOOL_CACHE"] = tempfile.mkdtemp(prefix="kvtool-tests-")
# Tiny models gain nothing from threads, and on a busy machine threads that wait for each other lose
# much.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a test marked `sampled`, mark all parameters but the first slow."""
    functions: set[str] = set()
    for item in items:
        function = item.nodeid.partition("[")[0]
        if function in functions and item.get_closest_marker("sampled"):
            item.add_marker("slow")
        functions.add(function)


def pytest_unconfigure() -> None:
    """Remove the cache, which the processes of a run share, once the one that made it is done."""
    if OWN_CACHE is not None:
        shutil.rmtree(OWN_CACHE, ignore_errors=True)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Draw the same numbers in every test and its fixtures, whatever ran before it."""
    import torch  # after the number of threads is set

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random LLaVA-OneVision checkpoint of three layers."""
    from tests.support.tiny import llava_onevision

    return llava_onevision(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """70 pictures of different sizes: two full parts and a rest."""
    from tests.support.tiny import noise

    folder = tmp_path_factory.mktemp("pictures")
    for i in range(70):
        noise(40 + i, 90 - i, i).save(folder / f"{i:03d}.png")
    return folder


@pytest.fixture(scope="session")
def embedded_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Data sets of the embedded world, for tests that only read them."""
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """Run `kvtool ...` in this process: (exit code, standard output, lines of standard error)."""
    return in_this_process(monkeypatch, capsys)


@pytest.fixture
def score(shell: Shell) -> Shell:
    """Run `kvtool score ...`, as shell."""
    return partial(shell, "score")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty hub cache of a machine without a network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"
