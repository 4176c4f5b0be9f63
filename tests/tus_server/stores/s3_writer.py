"""A process that sends an upload to S3 and is killed; its manifests and records lie in a file that others read too.

python -m tests.tus_server.stores.s3_writer <endpoint> <bucket> <file> <upload id> <seed> <pause after bytes>
"""

from __future__ import annotations

import fcntl
import os
import pickle
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.tus_server.stores.s3_kit import content_of
from tus_server.stores.manifests import Manifest, MemoryManifests
from tus_server.stores.memory import MemoryRecords
from tus_server.stores.s3 import S3Store
from tus_server.uploads import UploadRecord


class FileManifests:
    """Manifests that survive a process: pickled whole under a lock, and renamed into place."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def _changed(self) -> Iterator[MemoryManifests]:
        with open(f"{self._path}.lock", "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            manifests = self._read()
            yield manifests
            temporary = self._path.with_suffix(".new")
            temporary.write_bytes(pickle.dumps((manifests._manifests, manifests._parts)))
            os.replace(temporary, self._path)

    def _read(self) -> MemoryManifests:
        manifests = MemoryManifests()
        if self._path.exists():
            manifests._manifests, manifests._parts = pickle.loads(self._path.read_bytes())
        return manifests

    def load(self, record: UploadRecord) -> Manifest:
        return self._read().load(record)

    def reload(self, upload_id: str) -> Manifest:
        return self._read().reload(upload_id)

    def parts(self, upload_id: str) -> tuple[str, ...]:
        return self._read().parts(upload_id)

    def advance(self, known: Manifest, wanted: Manifest, new_parts: Sequence[str] = ()) -> Manifest:
        with self._changed() as manifests:
            return manifests.advance(known, wanted, new_parts)

    def delete(self, upload_id: str) -> None:
        with self._changed() as manifests:
            manifests.delete(upload_id)


def open_store(client: Any, bucket: str, path: Path, record: UploadRecord) -> S3Store:
    """Open a store over what all processes share."""
    records = MemoryRecords()
    records.create(record)
    return S3Store(client, bucket, records, FileManifests(path), segments="tails")


def main() -> None:
    """Send an upload from where it stands, say so when enough was written, and wait to be killed."""
    from tests.servers.moto import connect

    endpoint, bucket, path, record_path, seed, pause_after = sys.argv[1:]
    record: UploadRecord = pickle.loads(Path(record_path).read_bytes())
    store = open_store(connect(endpoint), bucket, Path(path), record)
    content = content_of(record.length or 0, int(seed))
    upload = store.get(record.id)
    sink = store.open_sink(upload, upload.offset)
    end = upload.offset + int(pause_after)
    for start in range(upload.offset, end, 65536):
        sink.write(memoryview(content)[start : min(start + 65536, end)])
    print("written", flush=True)
    time.sleep(600)


if __name__ == "__main__":
    main()
