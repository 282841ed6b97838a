"""What the Hugging Face hub is asked for, and what it refuses, is told in one line."""

from __future__ import annotations

import inspect
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import errors

from kvtool.errors import KvtoolError, StoreError, UsageError
from kvtool.store import Store, open_store
from kvtool.store.hub import pull, push
from kvtool.store.hub_folder import HubFolder
from tests.support.hub_data import FakeHub, fake_hub, http_error
from tests.support.object_stores import filled
from tests.support.shell import Shell

ADDRESS = "hf://datasets/acme/study"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeHub:
    return fake_hub(monkeypatch, tmp_path / "hub")


@pytest.fixture
def source(tmp_path: Path) -> Store:
    return filled(tmp_path / "source.kv")


@pytest.fixture
def target(tmp_path: Path) -> Store:
    return open_store(tmp_path / "target.kv", create=True)


@pytest.mark.parametrize(
    ("address", "parsed"),
    [
        (ADDRESS, HubFolder("acme/study")),
        (f"{ADDRESS}/", HubFolder("acme/study")),
        (f"{ADDRESS}@v1.0", HubFolder("acme/study", "", "v1.0")),
        (f"{ADDRESS}/a/b.kv@try/one", HubFolder("acme/study", "a/b.kv", "try/one")),
        (f"{ADDRESS}@v1/a/b.kv", HubFolder("acme/study", "a/b.kv", "v1")),
        (f"{ADDRESS}@refs/pr/3/a", HubFolder("acme/study", "a", "refs/pr/3")),
    ],
)
def test_addresses(address: str, parsed: HubFolder) -> None:
    assert HubFolder.parse(address) == parsed


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    "address",
    [
        "study.kv",
        "hf://acme/study",
        "hf://datasets/study",
        "hf://datasets/acme/study/../other",
        f"{ADDRESS}@",
        f"{ADDRESS}@v1/a@v2",
        f"{ADDRESS}/a b",
    ],
)
def test_what_is_no_address_is_refused(target: Store, address: str) -> None:
    with pytest.raises(UsageError, match="expected hf://datasets/OWNER/NAME"):
        pull(address, target)


def test_wrong_requests_reach_no_hub(hub: FakeHub, source: Store, target: Store) -> None:
    with pytest.raises(UsageError, match="pushed to the main branch"):
        push(source, f"{ADDRESS}@v1")
    with pytest.raises(UsageError, match="no run 'absent'"):
        push(source, ADDRESS, runs=["absent"])
    with pytest.raises(UsageError, match="expected a run to copy, found none"):
        push(target, ADDRESS)
    assert hub.private == {}


@pytest.mark.usefixtures("hub")
def test_what_the_hub_lacks_is_told(
    source: Store, target: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(address: str) -> str:
        with pytest.raises(StoreError) as caught:
            pull(address, target)
        return str(caught.value)

    assert "expected a data set acme/study on the hub, found none" in refused(ADDRESS)
    push(source, ADDRESS)
    assert "expected a branch, tag or commit v9, found none" in refused(f"{ADDRESS}@v9")
    assert "expected a kvtool store in the main branch, found none" in refused(f"{ADDRESS}/x")
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(StoreError, match="found none; log in with `hf auth login`"):
        push(source, ADDRESS)


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (http_error(errors.GatedRepoError, 403), "expected access to a gated data set"),
        (http_error(errors.HfHubHTTPError, 401), "expected a token of the hub, found none that"),
        (http_error(errors.HfHubHTTPError, 403), "expected a token that may write acme/study"),
        (http_error(errors.HfHubHTTPError, 503), "expected an answer of the hub, found: 503"),
        (errors.OfflineModeIsEnabled("x"), "found HF_HUB_OFFLINE set; unset it"),
        (errors.LocalTokenNotFoundError("x"), "expected a token of the hub"),
        (errors.LocalEntryNotFoundError("No network\nat all"), "found: No network"),
        (ConnectionResetError(104, "reset"), "expected an answer of the hub"),
        (ValueError("any\nthing"), "expected an answer of the hub, found: any; try again"),
        (OSError(28, "No space left on device"), "no space left on the disk"),
    ],
)
def test_what_the_client_raises_is_one_line(
    hub: FakeHub, source: Store, failure: Exception, message: str
) -> None:
    hub.failure = failure
    for call in (
        lambda: push(source, ADDRESS),
        lambda: pull(ADDRESS, source),
        lambda: HubFolder("acme/study").download(source.path / "tmp" / "x", "0001", ["*"]),
    ):
        with pytest.raises(KvtoolError) as caught:
            call()
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.usefixtures("source")
def test_without_a_network_the_real_client_ends_in_one_line(
    tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    code, _, err = shell("store", "pull", ADDRESS, str(tmp_path / "new.kv"))
    assert code == 1
    assert err[-1].endswith("expected the hub in reach, found HF_HUB_OFFLINE set; unset it")
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_token")
    code, _, err = shell("store", "push", str(tmp_path / "source.kv"), ADDRESS)
    assert code == 1
    assert "HF_HUB_OFFLINE set" in err[-1]


def test_the_real_client_takes_what_is_passed_to_make_it_and_has_bars() -> None:
    """The stand-in binds all other calls to the real functions."""
    from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

    inspect.signature(huggingface_hub.HfApi).bind(library_name="kvtool", library_version="1")
    for function in (disable_progress_bars, enable_progress_bars):
        inspect.signature(function).bind()
