"""The state machine over each store. ``HYPOTHESIS_PROFILE=thorough`` plays for as long as its examples last."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import settings

from tus_server.stores.base import UploadStore
from tus_server.stores.filesystem import FilesystemStore
from tus_server.stores.memory import MemoryStore
from tus_server.testing.machine import UploadMachine
from tus_server.testing.outcomes import Sent
from tus_server.uploads import Upload

#: A quarter of the profile's examples: each is a play of up to 50 requests.
PLAYS = settings(max_examples=settings.default.max_examples // 4, stateful_step_count=50)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Thousands of failures are played; what the engine says of each would only take time."""
    caplog.set_level(logging.CRITICAL + 1, logger="tus_server")


class MemoryMachine(UploadMachine):
    """Memory survives no death; the store stays, its requests die."""

    _survivor: MemoryStore | None = None

    def open_store(self, directory: Path) -> UploadStore:
        self._survivor = self._survivor or MemoryStore()
        return self._survivor

    def stored_bytes(self, upload: Upload) -> bytes | None:
        assert self._survivor is not None
        return self._survivor.read(upload.id)


class FilesystemMachine(UploadMachine):
    def open_store(self, directory: Path) -> UploadStore:
        return FilesystemStore(directory, durability="none")

    def stored_bytes(self, upload: Upload) -> bytes | None:
        path = self.directory / upload.record.object_name
        return path.read_bytes() if path.exists() else None


TestMemoryMachine = MemoryMachine.TestCase
TestMemoryMachine.settings = PLAYS
TestFilesystemMachine = FilesystemMachine.TestCase
TestFilesystemMachine.settings = PLAYS


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
