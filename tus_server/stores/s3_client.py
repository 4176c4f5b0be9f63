"""The requests that we make to S3, with their errors turned into ours. No uploads here, only objects of one bucket.

Rules for editors: nothing is concluded from an answer that is not there. A call that failed with ``StoreUnavailable``
may have had its effect; the other exceptions say for certain that it had none.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from tus_server.errors import StorageFull, StoreUnavailable

logger = logging.getLogger("tus_server.s3")


class S3Client(Protocol):
    """The calls of boto3's low-level client that are made, and no others. One client serves all threads."""

    # Any: parameters and answers are those of the S3 API.
    def put_object(self, **parameters: Any) -> Mapping[str, Any]: ...
    def get_object(self, **parameters: Any) -> Mapping[str, Any]: ...
    def head_object(self, **parameters: Any) -> Mapping[str, Any]: ...
    def delete_object(self, **parameters: Any) -> Mapping[str, Any]: ...
    def list_objects_v2(self, **parameters: Any) -> Mapping[str, Any]: ...
    def create_multipart_upload(self, **parameters: Any) -> Mapping[str, Any]: ...
    def upload_part(self, **parameters: Any) -> Mapping[str, Any]: ...
    def upload_part_copy(self, **parameters: Any) -> Mapping[str, Any]: ...
    def list_parts(self, **parameters: Any) -> Mapping[str, Any]: ...
    def complete_multipart_upload(self, **parameters: Any) -> Mapping[str, Any]: ...
    def abort_multipart_upload(self, **parameters: Any) -> Mapping[str, Any]: ...


class UploadMissing(Exception):
    """There is no such multipart upload: it was completed or aborted."""


class ObjectMissing(UploadMissing):
    """There is no such object. Ceph RGW says that of multipart uploads too."""


class PartsChanged(Exception):
    """The parts are not the ones that were named; the multipart upload is as it was."""


class NameTaken(Exception):
    """There is an object of that name, or it is another than was meant; nothing was changed."""


_ERRORS: dict[str, type[Exception]] = {
    "NoSuchUpload": UploadMissing,
    "NoSuchKey": ObjectMissing,
    "NotFound": ObjectMissing,
    "404": ObjectMissing,
    "InvalidPart": PartsChanged,
    "InvalidPartOrder": PartsChanged,
    "PreconditionFailed": NameTaken,
    "412": NameTaken,
    "QuotaExceeded": StorageFull,
    "XMinioStorageFull": StorageFull,
    "InsufficientStorage": StorageFull,
}


@contextmanager
def translated() -> Iterator[None]:
    """Turn the errors of botocore into ours."""
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in _ERRORS:
            raise _ERRORS[code]() from error
        logger.warning("S3 refuses %s: %s", error.operation_name, code)
        raise StoreUnavailable("The object store cannot serve this right now.") from error
    except (BotoCoreError, OSError) as error:
        logger.warning("S3 does not answer: %s", error)
        raise StoreUnavailable("The object store does not answer right now.") from error


@dataclass(frozen=True)
class Part:
    """A part as the backend lists it; ``size`` in bytes."""

    number: int
    size: int
    etag: str


@dataclass(frozen=True)
class Found:
    """An object as the backend describes it.

    Attributes:
        size: In bytes.
        etag: Without quotes.
        modified: When it was stored (aware).
        is_opaque: Whether it is encrypted such that its ETag is no MD5.
    """

    size: int
    etag: str
    modified: datetime
    is_opaque: bool


#: Parameters of ``put_object`` that other requests about the same object need too.
_CUSTOMER_KEY = ("SSECustomerAlgorithm", "SSECustomerKey", "SSECustomerKeyMD5")
_EVERYWHERE = ("ExpectedBucketOwner", "RequestPayer")
_ENCRYPTION = ("ServerSideEncryption", "SSEKMSKeyId", "SSEKMSEncryptionContext", "BucketKeyEnabled", *_CUSTOMER_KEY)


class S3Bucket:
    """One bucket.

    Args:
        client: boto3's client, or what has its calls.
        name: The bucket's.
        put_parameters: For the finished objects: ``ContentType``, ``ACL``, ``ServerSideEncryption`` and so on, as
            ``put_object`` takes them. Of these, segments have only the encryption.
        conditional: Whether the bucket takes ``If-None-Match`` with PutObject and CompleteMultipartUpload.
    """

    def __init__(
        self,
        client: S3Client,
        name: str,
        put_parameters: Mapping[str, Any] | None = None,
        *,
        conditional: bool = False,
    ) -> None:
        self.client = client
        self.name = name
        self.conditional = conditional
        self._final = dict(put_parameters or {})
        self._private = self._chosen(_ENCRYPTION + _EVERYWHERE)
        self._access = self._chosen(_CUSTOMER_KEY + _EVERYWHERE)
        self._plain = self._chosen(_EVERYWHERE)

    def _chosen(self, names: Sequence[str]) -> dict[str, Any]:
        return {name: self._final[name] for name in names if name in self._final}

    def _condition(self) -> dict[str, str]:
        return {"IfNoneMatch": "*"} if self.conditional else {}

    # --- objects ----------------------------------------------------------------------------------------------

    def put_segment(self, key: str, body: Any) -> None:
        """Store a private object of our own."""
        with translated():
            self.client.put_object(Bucket=self.name, Key=key, Body=body, **self._private)

    def put_object(self, key: str, body: Any, parameters: Mapping[str, Any]) -> str:
        """Store a finished object and return its ETag; ``parameters`` come on top of the bucket's.

        Raises:
            NameTaken: There is one already, and conditions are used.
        """
        parameters = {**self._final, **parameters, **self._condition()}
        with translated():
            return _etag(self.client.put_object(Bucket=self.name, Key=key, Body=body, **parameters))

    def get(self, key: str, start: int = 0, count: int | None = None, etag: str | None = None) -> bytes:
        """Return an object's bytes, or a range of them.

        Raises:
            ObjectMissing: There is none.
            NameTaken: It has another ETag.
        """
        parameters = {} if count is None else {"Range": f"bytes={start}-{start + count - 1}"}
        if etag is not None:
            parameters["IfMatch"] = f'"{etag}"'
        with translated():
            answer = self.client.get_object(Bucket=self.name, Key=key, **parameters, **self._access)
            with answer["Body"] as body:
                data: bytes = body.read()
                return data

    def head(self, key: str) -> Found | None:
        """Look at an object; ``None`` where there is none."""
        try:
            with translated():
                answer = self.client.head_object(Bucket=self.name, Key=key, **self._access)
        except ObjectMissing:
            return None
        is_opaque = "SSECustomerAlgorithm" in answer or "kms" in str(answer.get("ServerSideEncryption", ""))
        return Found(int(answer["ContentLength"]), _etag(answer), answer["LastModified"], is_opaque)

    def delete(self, key: str) -> None:
        """Delete an object; one that is not there is no error."""
        with suppress(UploadMissing), translated():
            self.client.delete_object(Bucket=self.name, Key=key, **self._plain)

    def list_keys(self, prefix: str) -> list[str]:
        """Return the keys that begin with ``prefix``."""
        keys: list[str] = []
        more: dict[str, str] = {}
        while True:
            with translated():
                answer = self.client.list_objects_v2(Bucket=self.name, Prefix=prefix, **more, **self._plain)
            keys += [str(entry["Key"]) for entry in answer.get("Contents", ())]
            if not answer.get("IsTruncated"):
                return keys
            more = {"ContinuationToken": str(answer["NextContinuationToken"])}

    # --- multipart uploads ------------------------------------------------------------------------------------

    def create_multipart(self, key: str, parameters: Mapping[str, Any]) -> str:
        """Begin a multipart upload and return its id."""
        with translated():
            answer = self.client.create_multipart_upload(Bucket=self.name, Key=key, **{**self._final, **parameters})
        return str(answer["UploadId"])

    def upload_part(self, key: str, multipart_id: str, number: int, body: Any) -> str:
        """Store a part over whatever has its number, and return its ETag.

        Raises:
            UploadMissing: The upload was aborted or completed.
        """
        with translated():
            answer = self.client.upload_part(
                Bucket=self.name, Key=key, UploadId=multipart_id, PartNumber=number, Body=body, **self._access
            )
        return _etag(answer)

    def copy_part(
        self, key: str, multipart_id: str, number: int, source: str, etag: str, limits: tuple[int, int] | None
    ) -> str:
        """Store a copy of an object, or of the range ``limits`` (first byte, end), as a part, and return its ETag.

        Raises:
            UploadMissing: The upload or the source is not there.
            NameTaken: The source has another ETag.
        """
        parameters = {f"CopySource{name}": value for name, value in self._chosen(_CUSTOMER_KEY).items()}
        if limits is not None:
            parameters["CopySourceRange"] = f"bytes={limits[0]}-{limits[1] - 1}"
        with translated():
            answer = self.client.upload_part_copy(
                Bucket=self.name,
                Key=key,
                UploadId=multipart_id,
                PartNumber=number,
                CopySource={"Bucket": self.name, "Key": source},
                CopySourceIfMatch=f'"{etag}"',
                **parameters,
                **self._access,
            )
        return _etag(answer["CopyPartResult"])

    def list_parts(self, key: str, multipart_id: str, after: int = 0) -> list[Part]:
        """Return the parts whose numbers are above ``after``.

        Raises:
            UploadMissing: The upload was aborted or completed. Some backends list nothing then, others all parts.
        """
        parts: list[Part] = []
        while True:
            with translated():
                answer = self.client.list_parts(
                    Bucket=self.name, Key=key, UploadId=multipart_id, PartNumberMarker=after, **self._access
                )
            listed = [Part(int(one["PartNumber"]), int(one["Size"]), _etag(one)) for one in answer.get("Parts", ())]
            parts += listed
            if not answer.get("IsTruncated") or not listed:
                return parts
            after = listed[-1].number

    def complete(self, key: str, multipart_id: str, etags: Sequence[str]) -> str:
        """Make an object of parts 1, 2, ... and return its ETag.

        Raises:
            UploadMissing: The upload was aborted, or completed before.
            PartsChanged: The backend has others.
            NameTaken: There is an object of that name, and conditions are used.
        """
        parts = [{"PartNumber": number, "ETag": f'"{etag}"'} for number, etag in enumerate(etags, 1)]
        with translated():
            answer = self.client.complete_multipart_upload(
                Bucket=self.name,
                Key=key,
                UploadId=multipart_id,
                MultipartUpload={"Parts": parts},
                **self._condition(),
                **self._access,
            )
        return _etag(answer)

    def abort(self, key: str, multipart_id: str) -> None:
        """Forget a multipart upload; one that is not there is no error. Parts on their way may stay; repeat it."""
        with suppress(UploadMissing), translated():
            self.client.abort_multipart_upload(Bucket=self.name, Key=key, UploadId=multipart_id, **self._plain)


def _etag(answer: Mapping[str, Any]) -> str:
    return str(answer.get("ETag", "")).strip('"')
