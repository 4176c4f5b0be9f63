"""What the tests of the S3 store share: buckets of their own, stores over them, and a client that resumes."""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from tus_server.config import TusConfig
from tus_server.engine import Engine
from tus_server.headers import OFFSET_MEDIA_TYPE
from tus_server.locks.memory import MemoryLocker
from tus_server.messages import Response
from tus_server.parts import PartLimits
from tus_server.stores.buffers import ReceiveBudget
from tus_server.stores.manifests import MemoryManifests
from tus_server.stores.memory import MemoryRecords
from tus_server.stores.s3 import S3Store
from tus_server.testing.bodies import ScriptedBody
from tus_server.testing.flights import Flight
from tus_server.testing.s3 import RecordingClient
from tus_server.uploads import Upload

#: Parts of a few bytes, for servers that take them.
SMALL = PartLimits(smallest=16, largest=1024, most=1000, usual=16)


@cache
def client_of(endpoint: Any) -> Any:
    """Return the one client of a server: making one takes a quarter of a second."""
    return endpoint.client()


def new_bucket(client: Any) -> str:
    """Make a bucket and return its name; a client in memory has one only."""
    name = f"bucket-{uuid.uuid4().hex[:16]}"
    client.create_bucket(Bucket=name)
    return name


@dataclass
class Site:
    """A bucket, what is known of its uploads, and a store over both; another store is another process."""

    client: Any
    bucket: str
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.recording = RecordingClient(self.client)
        self.records = MemoryRecords()
        self.manifests: Any = MemoryManifests()
        self.store = self.open()

    def open(self, client: Any = None, manifests: Any = None, **options: Any) -> S3Store:
        """Open a store over the bucket, as a process does that starts."""
        options = {"segments": "tails", "buffers": ReceiveBudget(patience=0.2), **self.options, **options}
        client = self.recording if client is None else client
        return S3Store(client, self.bucket, self.records, manifests or self.manifests, **options)

    def stored(self, upload: Upload) -> bytes:
        """Return what lies in the backend for an upload, past the store."""
        manifest = self.manifests.reload(upload.id)
        return self.recording.received(self.bucket, self.store.key(upload.record), manifest)

    def finished(self, upload_id: str) -> bytes:
        """Return the object of a finished upload, past the store."""
        record = self.records.get(upload_id)
        assert record.finished_at is not None
        data: bytes = self.client.get_object(Bucket=self.bucket, Key=self.store.key(record))["Body"].read()
        return data

    def keys(self) -> list[str]:
        """Return all keys of the bucket, or of the location in it."""
        answer = self.client.list_objects_v2(Bucket=self.bucket, Prefix=self.options.get("location", ""))
        return [entry["Key"] for entry in answer.get("Contents", ())]

    def open_multiparts(self) -> list[str]:
        """Return the ids of the multipart uploads that are neither completed nor aborted."""
        answer = self.client.list_multipart_uploads(Bucket=self.bucket)
        location = self.options.get("location", "")
        return [entry["UploadId"] for entry in answer.get("Uploads", ()) if entry["Key"].startswith(location)]


def content_of(size: int, seed: int = 0) -> bytes:
    """Return bytes that are alike each time and nowhere."""
    return random.Random(seed).randbytes(size)


class Sender:
    """A tus client that goes on after whatever happens, and notices an offset that goes back or is too large."""

    def __init__(self, store: Any, content: bytes) -> None:
        self.content = content
        self.told = 0
        self.sent = 0
        self.upload_id = ""
        self.restart(store)

    def restart(self, store: Any) -> None:
        """Talk to another process from now on."""
        self.engine = Engine(store, MemoryLocker(), config=TusConfig(max_size=None, lifetime=None))

    def fly(self, method: str, headers: dict[str, str], body: ScriptedBody | None = None) -> Response:
        """Send one request."""
        self.flight = Flight(self.engine, method, self.upload_id or None, headers, body)
        return self.flight.run()

    def create(self, **headers: str) -> None:
        """POST until there is an upload."""
        length = {} if "Upload_Defer_Length" in headers else {"Upload-Length": str(len(self.content))}
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        for _ in range(5):
            response = self.fly("POST", {**length, **headers})
            if response.status == 201:
                self.upload_id = (response.header("Location") or "").rpartition("/")[2]
                return
        raise AssertionError(response)

    def head(self) -> int:
        """Ask where the upload stands, until that is known."""
        for _ in range(8):
            response = self.fly("HEAD", {})
            if response.status == 200:
                offset = int(response.header("Upload-Offset") or "-1")
                assert self.told <= offset <= self.sent, (self.told, offset, self.sent)
                self.told = offset
                return offset
            assert response.status == 503, response
        raise AssertionError(response)

    def patch(self, size: int, cut: int | None = None, piece: int = 7, **headers: str) -> Response:
        """Send the next bytes, or the first ``cut`` of them before the connection breaks."""
        data = self.content[self.told : self.told + size]
        came = data if cut is None else data[:cut]
        pieces = [came[start : start + piece] for start in range(0, len(came), piece)]
        self.sent = max(self.sent, self.told + len(came))
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        response = self.fly(
            "PATCH",
            {
                "Content-Type": OFFSET_MEDIA_TYPE,
                "Upload-Offset": str(self.told),
                "Content-Length": str(len(data)),
                **names,
            },
            ScriptedBody(pieces, "finished" if cut is None else "vanished"),
        )
        if response.status == 204:
            offset = int(response.header("Upload-Offset") or "-1")
            assert offset == self.told + len(data)
            self.told = offset
        return response

    def send(self, size: int, piece: int = 7) -> None:
        """Send everything that is missing in chunks, asking for the offset whenever something went wrong."""
        for _ in range(1000):
            if self.told == len(self.content) and self.head() == len(self.content):
                return
            response = self.patch(size, piece=piece)
            if response.status != 204:
                assert response.status in (409, 423, 500, 503), response
                self.head()
        raise AssertionError("the upload does not come to its end")
