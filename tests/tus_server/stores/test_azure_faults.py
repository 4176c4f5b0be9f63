"""Uploads to Azurite over a bad network, dying processes and rivals: the client goes on, and all bytes arrive."""

from __future__ import annotations

import os
import pickle
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.servers.azure import WatchedContainer, lost_answer, make_container
from tests.servers.azurite import AzuriteServer
from tests.servers.process import ROOT
from tests.tus_server.stores.s3_kit import Sender, content_of
from tus_server.errors import Locked, OffsetConflict
from tus_server.stores.azure import AzureStore
from tus_server.stores.buffers import ReceiveBudget
from tus_server.stores.manifests import MemoryManifests
from tus_server.stores.memory import MemoryRecords
from tus_server.testing.azure_memory import MemoryAzure
from tus_server.testing.faults import When
from tus_server.testing.s3 import Died, FaultyManifests, LockedFaults
from tus_server.testing.stores import NOW
from tus_server.uploads import Upload


class Site:
    """A container, what is known of its uploads, and stores over both; each store is a process."""

    def __init__(self, container: WatchedContainer | MemoryAzure) -> None:
        self.container = container
        self.records, self.manifests = MemoryRecords(), MemoryManifests()

    def open(self, faults: LockedFaults | None = None, **options: Any) -> AzureStore:
        """Open a store, as a process does that starts."""
        faults = faults or LockedFaults()
        options = {"inline_limit": 6, "part_size": 16, **options}
        budget = ReceiveBudget(patience=0.2)
        manifests: Any = FaultyManifests(self.manifests, faults)
        container = self.container.behind(faults.call)
        return AzureStore(container, self.records, manifests, location="u", budget=budget, **options)

    def blobs(self) -> dict[str, bytes]:
        """Return every blob, also those that are not committed."""
        if isinstance(self.container, MemoryAzure):
            staged = {name: b"" for name, blocks in self.container.staged.items() if blocks}
            return {**staged, **{name: blob.data for name, blob in self.container.blobs.items()}}
        found = self.container.container
        listed = found.list_blobs(include=["uncommittedblobs"])
        return {blob.name: found.download_blob(blob.name).readall() if blob.size else b"" for blob in listed}


@pytest.fixture(params=["memory", pytest.param("azurite", marks=pytest.mark.e2e)])
def new_site(request: pytest.FixtureRequest) -> Callable[[], Site]:
    """Makes sites: on the service as documented, and on Azurite."""
    if request.param == "memory":
        return lambda: Site(MemoryAzure())
    server: AzuriteServer = request.getfixturevalue("azurite")
    return lambda: Site(WatchedContainer(make_container(server)))


@pytest.fixture
def site(new_site: Callable[[], Site]) -> Site:
    """One site."""
    return new_site()


def send_in_one(sender: Sender) -> None:
    sender.create()
    sender.send(len(sender.content))


def send_in_chunks(sender: Sender) -> None:
    sender.create()
    sender.send(23)


def send_tiny_pieces(sender: Sender) -> None:
    sender.create()
    sender.send(4)


def send_cut(sender: Sender) -> None:
    sender.create()
    for cut in (3, 17, 40):
        sender.patch(50, cut=cut)
        sender.head()
    sender.send(100)


#: Size of the content, and how it is sent.
SCENARIOS: dict[str, tuple[int, Callable[[Sender], None]]] = {
    "whole": (14, send_in_one),
    "one request": (70, send_in_one),
    "chunks": (70, send_in_chunks),
    "tiny": (21, send_tiny_pieces),
    "cut": (120, send_cut),
    "empty": (0, send_in_one),
}


def run(site: Site, scenario: str, faults: LockedFaults) -> None:
    """Run a scenario; when its process dies, another goes on from the offset that it tells."""
    size, steps = SCENARIOS[scenario]
    sender = Sender(site.open(faults), content_of(size))
    try:
        steps(sender)
    except Died:
        sender.flight.kill()
        sender.restart(site.open())
        if not sender.upload_id:
            sender.create()
        sender.head()
        sender.send(50)
    upload = site.open().get(sender.upload_id)
    assert upload.is_finished
    found = site.blobs()
    assert found.pop(f"u/{sender.upload_id}") == sender.content
    # A POST whose answer was lost made an empty upload that nobody knows of; it expires.
    assert all(size == 0 and not content for content in found.values())


@pytest.mark.parametrize("dies", [False, True], ids=["fails", "dies"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_call_may_fail_before_and_after_its_effect(
    new_site: Callable[[], Site], scenario: str, when: When, dies: bool
) -> None:
    for skip in range(200):
        faults = LockedFaults()
        (faults.arm_death(skip, when) if dies else faults.arm(skip, when, lost_answer))
        run(new_site(), scenario, faults)
        if not faults.fired:
            assert skip > (0 if scenario == "empty" else 1)
            return
    raise AssertionError("the scenario does not come to its end")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_termination_that_failed_anywhere_is_finished_by_the_next(site: Site, when: When) -> None:
    for finished in (False, True):
        for skip in range(20):
            faults = LockedFaults()
            sender = Sender(site.open(), content_of(70))
            sender.create()
            sender.patch(70 if finished else 60)
            sender.restart(site.open(faults))
            faults.arm(skip, when, lost_answer)
            record = site.records.get(sender.upload_id)
            answer = sender.fly("DELETE", {})
            if answer.status != 204:
                site.open().terminate(Upload(record, 0))  # as when it has expired
            assert site.blobs() == {}
            if not faults.fired:
                break
        assert skip > 1


@pytest.mark.parametrize("seed", range(12))
def test_random_cuts_deaths_and_take_overs_lose_nothing(site: Site, seed: int) -> None:
    dice = random.Random(seed)
    size = dice.randrange(200, 3000)
    faults = LockedFaults()
    sender = Sender(site.open(faults), content_of(size, seed))
    sender.create()
    deaths = 0
    while sender.told < size:
        chunk = dice.choice((5, 16, 33, 64, 500))
        cut = dice.choice((None, None, dice.randrange(chunk)))
        match dice.randrange(5):
            case 0:
                faults.arm_death(dice.randrange(12), dice.choice(("before", "after")))
            case 1:
                faults.arm(dice.randrange(12), dice.choice(("before", "after")), lost_answer)
        try:
            if sender.patch(chunk, cut=cut, piece=dice.choice((3, 16, 50))).status != 204:
                sender.head()
        except Died:
            deaths += 1
            sender.flight.kill()
            faults = LockedFaults()
            sender.restart(site.open(faults))
            sender.head()
        faults.disarm()
    assert sender.head() == size
    assert list(site.blobs().values()) == [sender.content]


@pytest.mark.parametrize("seed", range(6))
def test_a_rival_that_is_still_alive_changes_nothing_that_was_acknowledged(site: Site, seed: int) -> None:
    dice = random.Random(seed)
    content = content_of(400, seed)
    sender = Sender(site.open(), content)
    sender.create()
    fenced = 0
    while sender.told < len(content):
        upload = site.open().get(sender.upload_id)
        old = site.open()
        rival = old.open_sink(upload, upload.offset)
        count = dice.randrange(1, 80)
        rival.write(memoryview(content[upload.offset : upload.offset + count]))
        sender.sent = max(sender.sent, min(len(content), upload.offset + count))
        sender.restart(site.open())
        if sender.patch(dice.randrange(1, 60)).status != 204:
            sender.head()
        try:
            rival.write(memoryview(b"?" * dice.randrange(0, 30)))
            rival.settle()
        except (OffsetConflict, Locked):
            fenced += 1
    assert fenced
    sender.restart(site.open())
    assert sender.head() == len(content)
    assert list(site.blobs().values()) == [content]


@pytest.mark.e2e
def test_after_kill_9_in_the_middle_of_a_patch_the_next_process_goes_on(azurite: AzuriteServer) -> None:
    site = Site(WatchedContainer(make_container(azurite)))
    script = """
import os, pickle, sys
from azure.storage.blob import ContainerClient
from tus_server.stores.azure import AzureStore
from tus_server.stores.manifests import MemoryManifests
from tus_server.stores.memory import MemoryRecords
from tus_server.testing.stores import make_record
container = ContainerClient.from_connection_string(sys.argv[1], sys.argv[2])
class Told(MemoryManifests):
    def advance(self, *args):
        manifest = super().advance(*args)
        print(pickle.dumps((manifest, self._parts)).hex(), flush=True)
        return manifest
store = AzureStore(container, MemoryRecords(), Told(), location="u")
record = make_record(40 * 1024 * 1024)
print(pickle.dumps(record).hex(), flush=True)
sink = store.open_sink(store.create(record), 0)
for number in range(20):
    sink.write(memoryview(bytes([number]) * 1024 * 1024))
sink._pipeline.drain()
os.kill(os.getpid(), 9)
"""
    assert isinstance(site.container, WatchedContainer)
    arguments = [azurite.connection_string, site.container.container.container_name]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False, env=environment
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    record, *states = [pickle.loads(bytes.fromhex(line)) for line in child.stdout.split()]
    manifest, parts = states[-1]
    site.records.create(record)
    site.manifests._manifests[record.id], site.manifests._parts = manifest, parts
    store = site.open(part_size=None)
    upload = store.get(record.id)
    with pytest.raises(OffsetConflict) as caught:
        store.open_sink(upload, upload.offset)
    offset = caught.value.offset
    assert offset == 16 * 1024 * 1024
    sink = store.open_sink(replace(upload, offset=offset), offset)
    for number in range(16, 40):
        sink.write(memoryview(bytes([number]) * 1024 * 1024))
    upload = replace(upload, offset=sink.settle())
    store.sync(upload)
    store.finish(upload, NOW)
    (content,) = site.blobs().values()
    assert content == b"".join(bytes([number]) * 1024 * 1024 for number in range(40))
