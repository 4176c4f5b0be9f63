"""The state machine over each store. ``HYPOTHESIS_PROFILE=thorough`` plays for as long as its examples last."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tus_server.locks.base import Lease, Locker
from tus_server.locks.filesystem import FileLease, FileLocker
from tus_server.parts import PartLimits
from tus_server.stores import pipeline
from tus_server.stores.azure import AzureStore
from tus_server.stores.base import UploadStore
from tus_server.stores.buffers import ReceiveBudget
from tus_server.stores.filesystem import FilesystemStore
from tus_server.stores.manifests import MemoryManifests
from tus_server.stores.memory import MemoryRecords, MemoryStore
from tus_server.stores.s3 import S3Store
from tus_server.testing.azure_memory import URL, MemoryAzure, read_memory
from tus_server.testing.known import Known
from tus_server.testing.machine import UploadMachine
from tus_server.testing.outcomes import Sent
from tus_server.testing.s3 import FaultyClient, FaultyManifests
from tus_server.testing.s3_memory import MemoryS3
from tus_server.uploads import Upload

#: Half of the profile's examples: each is a play of up to 50 requests.
PLAYS = settings(max_examples=settings.default.max_examples // 2, stateful_step_count=50)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Thousands of failures are played; what the engine says of each would only take time."""
    caplog.set_level(logging.CRITICAL + 1, logger="tus_server")


@pytest.fixture(autouse=True)
def in_order(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the parts of uploads be sent where they are ready, and not in threads."""
    with AtOnce(1) as pool:
        monkeypatch.setattr(pipeline, "shared_pool", lambda: pool)
        yield


class MemoryMachine(UploadMachine):
    """Memory survives no death; the store stays, its requests die."""

    _survivor: MemoryStore | None = None

    def open_store(self, directory: Path) -> UploadStore:
        self._survivor = self._survivor or MemoryStore()
        return self._survivor

    def stored_bytes(self, upload: Upload) -> bytes | None:
        assert self._survivor is not None
        return self._survivor.content(upload.id)


class FilesystemMachine(UploadMachine):
    def open_store(self, directory: Path) -> UploadStore:
        return FilesystemStore(directory, durability="none")

    def stored_bytes(self, upload: Upload) -> bytes | None:
        path = self.directory / upload.record.object_name
        return path.read_bytes() if path.exists() else None


class LockedFilesMachine(FilesystemMachine):
    """With leases as files, which the dead leave behind."""

    def open_locker(self) -> Locker:
        return FileLocker(self.directory / "locks")

    def drop_lease(self, lease: Lease) -> None:
        assert isinstance(lease, FileLease)
        assert lease._descriptor is not None
        os.close(lease._descriptor)  # the kernel does no more


class AtOnce(ThreadPoolExecutor):
    """Runs a call where it is submitted, so that a play can be repeated."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments, **options))
        except Exception as error:
            future.set_exception(error)
        return future


class S3Machine(UploadMachine):
    """Parts of 16 bytes and tails of 8 in the manifest; the client and the manifests fail too.

    A process that dies leaves the parts that it had sent, and nothing of what it had gathered.
    """

    closes_on_death = False
    client: MemoryS3 | None = None

    def open_store(self, directory: Path) -> UploadStore:
        if self.client is None:
            self.client, self.records, self.manifests = MemoryS3(), MemoryRecords(), MemoryManifests()
        return S3Store(
            FaultyClient(self.client, self.faults),
            "bucket",
            self.records,
            FaultyManifests(self.manifests, self.faults),
            segments="tails",
            part_size=16,
            inline_limit=8,
            limits=PartLimits(smallest=4, largest=64, most=100, usual=16),
            buffers=ReceiveBudget(patience=0.0),
            clock=lambda: 0.0,
        )

    def stored_bytes(self, upload: Upload) -> bytes | None:
        assert self.client is not None
        manifest = self.manifests.reload(upload.id)
        if manifest.finished is not None:
            found = self.client.objects.get(upload.record.object_name)
            return None if found is None else found.data
        multipart = self.client.multiparts.get(manifest.multipart_id or "")
        parts = {} if multipart is None else multipart.parts
        pieces = [parts[number].data for number in range(1, manifest.part_count + 1)]
        tail = [self.client.objects[one.name].data if one.name else one.data for one in manifest.tail]
        return b"".join([*pieces, *tail])

    def needs_recovery(self, known: Known) -> bool:
        return self.manifests.reload(known.id).is_unsettled


class AzureMachine(UploadMachine):
    """Blocks of 16 bytes, fewer than 8 wait in the manifest; the client and the manifests fail too."""

    closes_on_death = False
    container: MemoryAzure | None = None

    def open_store(self, directory: Path) -> UploadStore:
        if self.container is None:
            self.container, self.records, self.manifests = MemoryAzure(), MemoryRecords(), MemoryManifests()
        self.store_behind = AzureStore(
            self.container.behind(self.faults.call),
            self.records,
            FaultyManifests(self.manifests, self.faults),
            part_size=16,
            inline_limit=8,
            sign=lambda name: f"{URL}{name}?signed",
            budget=ReceiveBudget(patience=0.0),
            clock=lambda: 0.0,
        )
        return self.store_behind

    def stored_bytes(self, upload: Upload) -> bytes | None:
        assert self.container is not None
        return read_memory(self.store_behind, self.container, upload)

    def needs_recovery(self, known: Known) -> bool:
        return self.manifests.reload(known.id).is_unsettled


TestMemoryMachine = MemoryMachine.TestCase
TestMemoryMachine.settings = PLAYS
TestFilesystemMachine = FilesystemMachine.TestCase
TestFilesystemMachine.settings = PLAYS
TestLockedFilesMachine = LockedFilesMachine.TestCase
TestLockedFilesMachine.settings = PLAYS
TestS3Machine = S3Machine.TestCase
TestS3Machine.settings = PLAYS
TestAzureMachine = AzureMachine.TestCase
TestAzureMachine.settings = PLAYS


def test_an_empty_body_without_a_length_does_not_finish_a_finished_upload_again() -> None:
    """Found by the machine: append used to finish whatever was received."""
    machine = MemoryMachine()
    try:
        machine.create(length=1, body=Sent((1,)))
        (known,) = machine.uploads.values()
        assert known.finished == 1
        machine.alone(machine.fly("PATCH", known, {"Upload-Offset": "1"}, 1, Sent((), is_chunked=True)))
        assert known.finished == 1
    finally:
        machine.teardown()
