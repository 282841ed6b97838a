"""Stores on a real S3 server: copied there and back, written by processes that are killed and by
two at once, and told in one line where the server refuses.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

import kvtool
from kvtool.store import Store, mirrors, open_store
from kvtool.store.copying import copy
from kvtool.store.objects.bucket import ACCOUNTS, ENDPOINTS, full_address
from kvtool.store.verify import verify
from tests.store.objects import writers
from tests.support.object_stores import (
    IMAGES,
    files_of,
    filled,
    forget_mirrors,
    keys_of,
    on_machine,
)
from tests.support.runs import assert_holds
from tests.support.shell import Shell

pytestmark = pytest.mark.slow


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.store.objects.writers", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def elsewhere(address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> Store:
    """The store as a machine opens it that has not seen it before."""
    forget_mirrors(monkeypatch)
    on_machine(name, monkeypatch, tmp_path)
    return open_store(address)


def assert_whole(store: Store) -> None:
    """All images are there once, as they were written."""
    assert verify(store) == []
    assert_holds(store.run(), writers.IMAGES)
    assert len(store.run().parts()) == writers.N_PARTS


def test_a_store_is_copied_to_a_server_and_back_byte_for_byte(
    address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = filled(tmp_path / "source.kv")
    assert copy(source, open_store(address, create=True)).runs[0].parts == 2
    second = elsewhere(address, monkeypatch, tmp_path, "second")
    assert_holds(second.run(), IMAGES)
    assert verify(second) == []
    target = open_store(tmp_path / "target.kv", create=True)
    assert copy(second, target).results == 2
    assert files_of(target.run()) == files_of(source.run())


@pytest.mark.parametrize("moment", writers.MOMENTS)
def test_a_writer_that_is_killed_leaves_whole_parts_and_the_next_goes_on(
    address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, moment: str
) -> None:
    killed = start(address, moment)
    killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL
    store = elsewhere(address, monkeypatch, tmp_path, "reader")
    n_parts = 3 if moment == "after commit" else 2
    assert_holds(store.run(), writers.IMAGES[: n_parts * writers.PART_SIZE])
    assert verify(store) == []
    assert any("0000004-0000006-" in key for key in keys_of(store)), "the part had been begun"
    # The claim of the killed process is taken over at once: this machine knows that it is dead.
    assert len(writers.work(address)) == writers.N_PARTS - n_parts
    assert_whole(elsewhere(address, monkeypatch, tmp_path, "second reader"))


def test_two_writers_of_one_run_do_nothing_twice(
    address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    processes = []
    for name in ("first", "second"):
        on_machine(name, monkeypatch, tmp_path)
        processes.append(start(address))
    names = [process.communicate(timeout=120)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    store = elsewhere(address, monkeypatch, tmp_path, "reader")
    # What one held when the other came by may be left: then nobody holds it any more.
    late_names = writers.work(address)
    assert sorted([*names[0], *names[1], *late_names]) == sorted(
        part.name for part in open_store(address).run().parts()
    )
    mirrors.refresh(store.path, at_once=True)
    assert_whole(store)
    assert [key for key in keys_of(store) if key.endswith(".claim")] == []


def test_a_store_is_removed_and_looked_at_by_commands(
    address: str, shell: Shell, tmp_path: Path
) -> None:
    filled(tmp_path / "source.kv")
    code, out, err = shell("store", "copy", str(tmp_path / "source.kv"), address)
    assert (code, err[-1]) == (0, f"{address}: 2 results and answers copied")
    assert '"parts": 2' in out
    code, out, _ = shell("store", "info", address, "--format", "json")
    assert code == 0
    assert f'"store": "{address}"' in out
    assert '"free_bytes": null' in out
    code, _, err = shell("store", "verify", address)
    assert (code, err[-1]) == (0, f"{address}: 2 parts, no problem")
    code, _, err = shell("store", "remove", address, "tiny", "--yes")
    assert (code, err[-1]) == (0, f"{address}: removed run tiny")
    assert kvtool.open(address).runs() == []


def refusal(shell: Shell, address: str) -> str:
    """The one line of an error."""
    code, _, err = shell("store", "info", address)
    assert (code, len(err)) == (1, 1)
    assert err[0].startswith(f"kvtool: store {address}: ")
    return err[0]


WRONG_KEYS = {
    "s3": ("AWS_SECRET_ACCESS_KEY", "another", "(SignatureDoesNotMatch): check AWS_ACCESS"),
    "az": ("AZURE_STORAGE_ACCOUNT_KEY", "YW5vdGhlcg==", "(AuthorizationFailure): check AZURE_"),
}
"""By scheme: a key that the server does not know, and how the refusal goes on."""
CREDENTIALS = {"s3": "AWS_ACCESS_KEY_ID", "az": "AZURE_STORAGE_ACCOUNT_NAME"}


def test_what_the_server_refuses_is_told_in_one_line(
    address: str, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheme = address.partition(":")[0]
    assert "expected a kvtool store, found nothing" in refusal(shell, address)
    no_bucket = f"{scheme}://nosuchbucket/tiny.kv"
    assert "expected the bucket nosuchbucket, found none" in refusal(shell, no_bucket)
    with monkeypatch.context() as patch:
        name, key, words = WRONG_KEYS[scheme]
        patch.setenv(name, key)
        assert f"access is denied {words}" in refusal(shell, address)
    with monkeypatch.context() as patch:
        patch.delenv(CREDENTIALS[scheme])
        assert f"expected credentials, found none: set {CREDENTIALS[scheme]}" in refusal(
            shell, address
        )
    with monkeypatch.context() as patch:
        patch.setenv(ENDPOINTS[scheme][0], "http://127.0.0.1:9")
        assert "cannot be reached at http://127.0.0.1:9: check the network" in refusal(
            shell, address
        )
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "obstore.store", None)
        assert "pip install 'kvtool[s3]'" in refusal(shell, address)


def test_a_key_that_cannot_be_read_is_told(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KVTOOL_CACHE", str(tmp_path))
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "not base64")
    assert "expected a key that can be read: check AZURE_STORAGE_ACCOUNT_NAME and AZURE_" in (
        refusal(shell, "az://container/tiny.kv")
    )


@pytest.mark.parametrize(
    "name", [*ENDPOINTS["s3"], *ENDPOINTS["gs"], *ENDPOINTS["az"], *ACCOUNTS.values()]
)
def test_an_address_means_another_store_at_another_server(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one server's store holds would else be taken for the other's."""
    scheme = next(
        scheme for scheme in ENDPOINTS if name in (*ENDPOINTS[scheme], ACCOUNTS.get(scheme))
    )
    addresses = set()
    for server in ("http://first.example", "http://second.example"):
        monkeypatch.setenv(name, server)
        addresses.add(full_address(f"{scheme}://tests/tiny.kv"))
    assert len(addresses) == 2
