"""What each level of durability promises: against the death of the process, and against a loss of power.

Power is lost in simulation: after it a directory holds the names that it had when it was last synced, a file the bytes.
That is the least that POSIX promises; real file systems keep more.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.servers import Kind, RunningServer
from tests.tus_server.conformance.client import TusClient, pattern
from tus_server.drivers import drive
from tus_server.effects import Receive, Received
from tus_server.engine import Engine
from tus_server.errors import UploadGone, UploadNotFound
from tus_server.headers import Headers
from tus_server.locks.memory import MemoryLocker
from tus_server.messages import Request, Response
from tus_server.stores import syncing
from tus_server.stores.filesystem import Durability, FilesystemStore
from tus_server.stores.sidecars import FileRecords
from tus_server.uploads import Upload, UploadRecord

LEVELS: list[Durability] = ["none", "data", "strict"]
CONTENT = pattern(300_000)


class Disk:
    """A directory on a disk whose power may fail: notes what is synced, and can make what would be left."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.bytes: dict[int, bytes] = {}
        self.times: dict[int, int] = {}
        self.names: dict[int, dict[str, int]] = {}
        #: Paths that were synced, in order.
        self.synced: list[Path] = []
        for name in ("fsync", "fdatasync"):
            monkeypatch.setattr(os, name, self._noting(getattr(os, name)))

    def _noting(self, sync: Callable[[int], None]) -> Callable[[int], None]:
        def noting(descriptor: int) -> None:
            sync(descriptor)
            path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
            self.synced.append(path)
            found = os.fstat(descriptor)
            if stat.S_ISDIR(found.st_mode):
                self.names[found.st_ino] = {each.name: each.lstat().st_ino for each in path.iterdir()}
            else:
                self.bytes[found.st_ino] = os.pread(descriptor, found.st_size, 0)
                self.times[found.st_ino] = found.st_mtime_ns

        return noting

    def lose_power(self, target: Path) -> Path:
        """Make a directory that holds what is left."""
        self._leave(self.root.stat().st_ino, target)
        return target

    def _leave(self, inode: int, target: Path) -> None:
        target.mkdir()
        kinds = {each.lstat().st_ino: each.is_dir() for each in self.root.rglob("*")}
        for name, child in self.names.get(inode, {}).items():
            if child not in kinds:
                continue  # removed since; only what must be there matters here
            if kinds[child]:
                self._leave(child, target / name)
            else:
                (target / name).write_bytes(self.bytes.get(child, b""))
                if child in self.times:
                    os.utime(target / name, ns=(self.times[child],) * 2)


class Wire:
    """A body that is given at once, to be cut or not."""

    def __init__(self, data: bytes, *, is_whole: bool = True) -> None:
        self._data = data
        self._is_whole = is_whole

    def receive(self, effect: Receive) -> Received:
        effect.sink.write(memoryview(self._data))
        return Received(len(self._data), "finished" if self._is_whole else "vanished")

    def read(self, limit: int) -> bytes:
        raise AssertionError("nobody reads here")


class Endpoint:
    """An engine over a directory, asked as by a client."""

    def __init__(self, directory: Path, durability: Durability) -> None:
        self.store = NestedStore(directory / "files", durability=durability)
        self.engine = Engine(self.store, MemoryLocker())

    def ask(
        self, method: str, upload_id: str | None, body: bytes = b"", *, is_whole: bool = True, **headers: str
    ) -> Response:
        fields = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        length = len(body) + (not is_whole)
        request = Request(method, Headers([*fields.items(), ("Content-Length", str(length))]), upload_id, "/files/")
        return drive(self.engine.handle(request), Wire(body, is_whole=is_whole))

    def create(self, length: int, body: bytes = b"") -> tuple[Response, str]:
        answer = self.ask("POST", None, body, Upload_Length=str(length))
        assert answer.status == 201
        return answer, (answer.header("Location") or "").rpartition("/")[2]

    def stands(self, upload_id: str) -> Upload | None:
        """The upload as a restarted server finds it; ``None`` when it knows none."""
        try:
            return self.store.get(upload_id)
        except (UploadNotFound, UploadGone):
            return None


class NestedStore(FilesystemStore):
    """Data files in directories that are made for them, as the app's keys have them."""

    def create(self, record: UploadRecord) -> Upload:
        return super().create(replace(record, object_name=f"2026/11/{record.id}"))


@pytest.fixture(autouse=True)
def _no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncing.directories, "_known", type(syncing.directories._known)())


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    root = tmp_path / "disk"
    root.mkdir()
    return Disk(root, monkeypatch)


@pytest.fixture
def after(tmp_path: Path) -> Path:
    return tmp_path / "after"


def bytes_of(endpoint: Endpoint, upload: Upload) -> bytes:
    return endpoint.store.path(upload.record).read_bytes()


# --- loss of power --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["data", "strict"])
@pytest.mark.parametrize("chunks", [1, 3])
@pytest.mark.parametrize("with_upload", [False, True])
def test_a_finished_upload_is_there(disk: Disk, after: Path, level: Durability, chunks: int, with_upload: bool) -> None:
    endpoint = Endpoint(disk.root, level)
    step = len(CONTENT) // chunks
    first = CONTENT[:step] if with_upload else b""
    _, upload_id = endpoint.create(len(CONTENT), first)
    for offset in range(len(first), len(CONTENT), step):
        answer = endpoint.ask("PATCH", upload_id, CONTENT[offset : offset + step], Upload_Offset=str(offset))
        assert answer.status == 204
    restarted = Endpoint(disk.lose_power(after), level)
    upload = restarted.stands(upload_id)
    assert upload is not None
    assert upload.is_finished
    assert bytes_of(restarted, upload) == CONTENT


@pytest.mark.parametrize("how", ["whole", "cut"])
def test_strict_keeps_every_byte_that_was_acknowledged(disk: Disk, tmp_path: Path, how: str) -> None:
    endpoint = Endpoint(disk.root, "strict")
    _, upload_id = endpoint.create(len(CONTENT))
    created = Endpoint(disk.lose_power(tmp_path / "created"), "strict").stands(upload_id)
    assert created is not None
    assert created.length == len(CONTENT)
    for offset in range(0, 200_000, 50_000):
        chunk = CONTENT[offset : offset + 50_000]
        answer = endpoint.ask("PATCH", upload_id, chunk, is_whole=how == "whole", Upload_Offset=str(offset))
        assert (answer.status == 204) is (how == "whole")
        restarted = Endpoint(disk.lose_power(tmp_path / f"after-{offset}"), "strict")
        upload = restarted.stands(upload_id)
        assert upload is not None
        # A cut body is not acknowledged by its answer, but by the next HEAD.
        assert upload.offset == offset + 50_000
        assert bytes_of(restarted, upload) == CONTENT[: upload.offset]


def test_strict_keeps_a_length_that_was_declared_late(disk: Disk, after: Path) -> None:
    endpoint = Endpoint(disk.root, "strict")
    answer = endpoint.ask("POST", None, Upload_Defer_Length="1")
    upload_id = (answer.header("Location") or "").rpartition("/")[2]
    endpoint.ask("PATCH", upload_id, CONTENT[:10], Upload_Offset="0", Upload_Length="20")
    upload = Endpoint(disk.lose_power(after), "strict").stands(upload_id)
    assert upload is not None
    assert (upload.length, upload.offset) == (20, 10)


@pytest.mark.parametrize("level", LEVELS)
def test_an_unfinished_upload_never_stands_beyond_its_bytes(disk: Disk, after: Path, level: Durability) -> None:
    endpoint = Endpoint(disk.root, level)
    _, upload_id = endpoint.create(len(CONTENT))
    endpoint.ask("PATCH", upload_id, CONTENT[:1000], Upload_Offset="0")
    # Somebody else's upload makes the directories durable.
    endpoint.create(len(CONTENT), CONTENT)
    restarted = Endpoint(disk.lose_power(after), level)
    upload = restarted.stands(upload_id)
    if upload is not None:
        assert not upload.is_finished
        assert bytes_of(restarted, upload) == CONTENT[: upload.offset]
    assert level != "strict" or (upload is not None and upload.offset == 1000)


def test_none_syncs_nothing(disk: Disk) -> None:
    endpoint = Endpoint(disk.root, "none")
    endpoint.create(len(CONTENT), CONTENT)
    _, upload_id = endpoint.create(20)
    endpoint.ask("PATCH", upload_id, CONTENT[:10], Upload_Offset="0")
    assert disk.synced == []


def test_data_syncs_nothing_before_the_end_and_each_thing_once_then(disk: Disk) -> None:
    endpoint = Endpoint(disk.root, "data")
    _, upload_id = endpoint.create(len(CONTENT))
    endpoint.ask("PATCH", upload_id, CONTENT[:-1], Upload_Offset="0")
    assert disk.synced == []
    endpoint.ask("PATCH", upload_id, CONTENT[-1:], Upload_Offset=str(len(CONTENT) - 1))
    files = disk.root / "files"
    data = [files / "2026" / "11" / upload_id, *(files / "2026" / "11" / upload_id).parents][:5]
    # The bytes, then the names that lead to them; and only then the record that calls the upload finished.
    assert disk.synced[:5] == data
    record, *names = disk.synced[5:]
    assert record.name.startswith(".record-")
    assert names[0] == files
    assert set(names) <= {files, disk.root}


@pytest.mark.parametrize(
    ("level", "creation", "chunk", "last"), [("none", 0, 0, 0), ("data", 0, 0, 2), ("strict", 1, 1, 2)]
)
def test_what_each_level_costs_in_a_directory_that_is_in_use(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, level: Durability, creation: int, chunk: int, last: int
) -> None:
    """As in the table of docs/explanation/durability.md; the records lie elsewhere, as in a database."""
    monkeypatch.setattr(syncing, "_TICK", -1)
    endpoint = Endpoint(disk.root, level)
    endpoint.store.records = FileRecords(disk.root / "records")
    endpoint.create(len(CONTENT), CONTENT)

    def count(method: str, upload_id: str | None, body: bytes, **headers: str) -> tuple[int, Response]:
        disk.synced.clear()
        answer = endpoint.ask(method, upload_id, body, **headers)
        assert answer.status < 300
        return len(disk.synced), answer

    found, answer = count("POST", None, b"", Upload_Length="20")
    upload_id = (answer.header("Location") or "").rpartition("/")[2]
    assert found == creation
    assert count("PATCH", upload_id, bytes(10), Upload_Offset="0")[0] == chunk
    assert count("PATCH", upload_id, bytes(10), Upload_Offset="10")[0] == last
    assert count("POST", None, bytes(20), Upload_Length="20")[0] == creation + last


def test_directories_that_did_not_change_are_not_synced_again(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncing, "_TICK", -1)
    directories = syncing.SyncedDirectories()
    (disk.root / "a" / "b").mkdir(parents=True)
    directories.sync_name(disk.root / "a" / "b" / "x", disk.root / "a")
    assert disk.synced == [disk.root / "a" / "b", disk.root / "a", disk.root]
    disk.synced.clear()
    directories.sync_name(disk.root / "a" / "b" / "y", disk.root / "a")
    assert disk.synced == [disk.root / "a" / "b"]
    disk.synced.clear()
    (disk.root / "a" / "c").mkdir()
    directories.sync_name(disk.root / "a" / "c" / "x", disk.root / "a")
    assert disk.synced == [disk.root / "a" / "c", disk.root / "a"]


def test_a_directory_that_just_changed_is_not_remembered(disk: Disk) -> None:
    """Within one tick of the file system's clock it could change again and show the same time."""
    directories = syncing.SyncedDirectories()
    (disk.root / "a").mkdir()
    for _ in range(2):
        disk.synced.clear()
        directories.sync_name(disk.root / "a" / "x", disk.root / "a")
        assert disk.synced == [disk.root / "a", disk.root]


def test_no_more_directories_are_remembered_than_there_is_room_for(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncing, "_TICK", -1)
    monkeypatch.setattr(syncing, "_KNOWN", 2)
    directories = syncing.SyncedDirectories()
    for name in "abc":
        (disk.root / name / "d").mkdir(parents=True)
        directories.sync_name(disk.root / name / "d" / "x", disk.root / name / "d")
    assert len(directories._known) == 2


def test_a_root_whose_surroundings_are_not_ours_to_read(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    real_open = os.open

    def refusing(path: str | Path, *args: int) -> int:
        if Path(path) == disk.root:
            raise PermissionError
        return real_open(path, *args)

    (disk.root / "a").mkdir()
    monkeypatch.setattr(os, "open", refusing)
    syncing.SyncedDirectories().sync_name(disk.root / "a" / "x", disk.root / "a")
    assert disk.synced == [disk.root / "a"]


# --- death of the process -------------------------------------------------------------------------------------------


@pytest.mark.e2e
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", ["gthread", "uvicorn"])
def test_what_was_acknowledged_before_a_kill_is_kept_at_every_level(
    tmp_path: Path, kind: Kind, level: Durability
) -> None:
    with RunningServer(kind, tmp_path, env={"TEST_SERVER_DURABILITY": level}) as server:
        tus = TusClient(server.address, server.directory)
        url = tus.create(len(CONTENT))
        finished = tus.upload(CONTENT)
        assert tus.patch(url, 0, CONTENT[:100_000]).status == 204
        server.kill()
        server.start()
        assert tus.offset(url) == 100_000
        assert tus.offset(finished) == len(CONTENT)
        assert tus.stored_bytes(finished) == CONTENT
        tus.resume(url, CONTENT)
