"""An S3 in memory: one bucket, no latency. Quick enough for thousands of uploads; it counts what they cost."""

# ruff: noqa: N803  # the names of the S3 API
from __future__ import annotations

import hashlib
import io
import itertools
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tus_server.testing.s3 import refusal


@dataclass(frozen=True)
class StoredObject:
    """An object, or a part; ``size`` in bytes, which the data lacks where it is discarded."""

    data: bytes
    etag: str
    stored_at: datetime
    size: int


@dataclass
class Multipart:
    """A multipart upload that was neither completed nor aborted."""

    key: str
    parts: dict[int, StoredObject] = field(default_factory=dict)


class MemoryS3:
    """What ``s3_client.S3Client`` names, over dictionaries. Conditions are honoured as AWS does.

    Args:
        discards: Keep sizes in place of bytes, to count what large uploads cost.
        smallest_part: The fewest bytes of a part that is not the last.

    Attributes:
        objects: By key.
        multiparts: By id.
        requests: How many of each kind were made.
        received: How many bytes came.
    """

    def __init__(self, *, discards: bool = False, smallest_part: int = 1) -> None:
        self.objects: dict[str, StoredObject] = {}
        self.multiparts: dict[str, Multipart] = {}
        self.requests: Counter[str] = Counter()
        self.received = 0
        self._discards = discards
        self._smallest_part = smallest_part
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def reset(self) -> None:
        """Count from zero."""
        self.requests.clear()
        self.received = 0

    def _count(self, name: str) -> None:
        with self._lock:
            self.requests[name] += 1

    def _store(self, body: Any) -> StoredObject:
        if self._discards:
            size, data = len(body) if hasattr(body, "__len__") else len(body.read()), b""
        else:
            data = body.read() if hasattr(body, "read") else bytes(body)
            size = len(data)
        with self._lock:
            self.received += size
        return _stored(data, size)

    def _bytes(self, found: StoredObject, text: str | None) -> bytes:
        data = bytes(found.size) if self._discards else found.data
        if text is None:
            return data
        start, _, last = text.removeprefix("bytes=").partition("-")
        return data[int(start) : int(last) + 1]

    def create_bucket(self, **parameters: Any) -> Mapping[str, Any]:
        """There is one already."""
        return {}

    def list_multipart_uploads(self, **parameters: Any) -> Mapping[str, Any]:
        """For tests that look for what was left behind."""
        return {"Uploads": [{"Key": one.key, "UploadId": name} for name, one in self.multiparts.items()]}

    # Any: parameters and answers are those of the S3 API.
    def put_object(self, *, Key: str, Body: Any, **parameters: Any) -> Mapping[str, Any]:
        self._count("put_object")
        self._require_free(Key, parameters)
        self.objects[Key] = self._store(Body)
        return {"ETag": self.objects[Key].etag}

    def get_object(self, *, Key: str, **parameters: Any) -> Mapping[str, Any]:
        self._count("get_object")
        found = self._find(Key, parameters.get("IfMatch"))
        return {"Body": io.BytesIO(self._bytes(found, parameters.get("Range"))), "ETag": found.etag}

    def head_object(self, *, Key: str, **parameters: Any) -> Mapping[str, Any]:
        self._count("head_object")
        found = self._find(Key)
        return {"ContentLength": found.size, "ETag": found.etag, "LastModified": found.stored_at}

    def delete_object(self, *, Key: str, **parameters: Any) -> Mapping[str, Any]:
        self._count("delete_object")
        self.objects.pop(Key, None)
        return {}

    def list_objects_v2(self, *, Prefix: str = "", **parameters: Any) -> Mapping[str, Any]:
        self._count("list_objects_v2")
        return {"Contents": [{"Key": key} for key in sorted(self.objects) if key.startswith(Prefix)]}

    def create_multipart_upload(self, *, Key: str, **parameters: Any) -> Mapping[str, Any]:
        self._count("create_multipart_upload")
        name = f"multipart-{next(self._numbers)}"
        self.multiparts[name] = Multipart(Key)
        return {"UploadId": name}

    def upload_part(
        self,
        *,
        UploadId: str,
        PartNumber: int,
        Body: Any,
        **parameters: Any,
    ) -> Mapping[str, Any]:
        self._count("upload_part")
        part = self._multipart(UploadId).parts[PartNumber] = self._store(Body)
        return {"ETag": part.etag}

    def upload_part_copy(
        self,
        *,
        UploadId: str,
        PartNumber: int,
        CopySource: Mapping[str, str],
        **parameters: Any,
    ) -> Mapping[str, Any]:
        self._count("upload_part_copy")
        found = self._find(CopySource["Key"], parameters.get("CopySourceIfMatch"))
        data = self._bytes(found, parameters.get("CopySourceRange"))
        part = _stored(b"" if self._discards else data, len(data))
        self._multipart(UploadId).parts[PartNumber] = part
        return {"CopyPartResult": {"ETag": part.etag}}

    def list_parts(self, *, UploadId: str, PartNumberMarker: int = 0, **parameters: Any) -> Mapping[str, Any]:
        self._count("list_parts")
        parts = sorted(self._multipart(UploadId).parts.items())
        listed: list[dict[str, Any]] = [
            {"PartNumber": number, "Size": part.size, "ETag": part.etag} for number, part in parts
        ]
        return {"Parts": [one for one in listed if one["PartNumber"] > PartNumberMarker]}

    def complete_multipart_upload(
        self,
        *,
        Key: str,
        UploadId: str,
        MultipartUpload: Mapping[str, Any],
        **parameters: Any,
    ) -> Mapping[str, Any]:
        self._count("complete_multipart_upload")
        multipart = self._multipart(UploadId)
        self._require_free(Key, parameters)
        pieces = []
        for named in MultipartUpload["Parts"]:
            part = multipart.parts.get(named["PartNumber"])
            if part is None or part.etag != named["ETag"]:
                raise refusal("InvalidPart", "CompleteMultipartUpload")
            pieces.append(part)
        if not pieces:
            raise refusal("MalformedXML", "CompleteMultipartUpload")
        if any(part.size < self._smallest_part for part in pieces[:-1]):
            raise refusal("EntityTooSmall", "CompleteMultipartUpload")
        digest = hashlib.md5(b"".join(bytes.fromhex(part.etag.strip('"')) for part in pieces), usedforsecurity=False)
        etag = f'"{digest.hexdigest()}-{len(pieces)}"'
        self.objects[Key] = StoredObject(
            b"".join(part.data for part in pieces), etag, datetime.now(UTC), sum(part.size for part in pieces)
        )
        del self.multiparts[UploadId]
        return {"ETag": etag}

    def abort_multipart_upload(self, *, UploadId: str, **parameters: Any) -> Mapping[str, Any]:
        self._count("abort_multipart_upload")
        self._multipart(UploadId)
        del self.multiparts[UploadId]
        return {}

    def _multipart(self, name: str) -> Multipart:
        if name not in self.multiparts:
            raise refusal("NoSuchUpload", status=404)
        return self.multiparts[name]

    def _find(self, key: str, etag: str | None = None) -> StoredObject:
        if key not in self.objects:
            raise refusal("NoSuchKey", status=404)
        if etag not in (None, self.objects[key].etag):
            raise refusal("PreconditionFailed", status=412)
        return self.objects[key]

    def _require_free(self, key: str, parameters: Mapping[str, Any]) -> None:
        if parameters.get("IfNoneMatch") == "*" and key in self.objects:
            raise refusal("PreconditionFailed", status=412)


def _stored(data: bytes, size: int) -> StoredObject:
    etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return StoredObject(data, f'"{etag}"', datetime.now(UTC), size)
