"""Copies on S3's side: up to 256 MiB in one request, larger ones in pieces, eight at a time.

A copy is made of one content: each request names the source's ETag. It may be repeated after a crash at any line: what
is under way is remembered by its caller, and a repeat copies the pieces that are missing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

logger = logging.getLogger("async_uploads.storage")

MIB = 2**20
#: Copied by one request up to here; CopyObject itself takes 5 GiB, but no client likes to wait for it.
SINGLE_LIMIT = 256 * MIB
SMALLEST_PIECE = 128 * MIB
#: S3 User Guide, "Multipart upload limits".
LARGEST_PIECE = 5 * 1024 * MIB
#: How many pieces are copied at the same time.
WIDTH = 8

#: Parameters of single objects: with these, Complete would want the checksum of each part.
NOT_IN_PARTS = frozenset({"ChecksumAlgorithm", "ChecksumType"})

#: What services answer that do not know a condition, and those that do when it does not hold.
NOT_IMPLEMENTED = frozenset({"NotImplemented", "501"})
PRECONDITION_FAILED = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", "409"})
NOT_ALLOWED = frozenset({"AccessDenied", "403"})
MISSING_UPLOAD = frozenset({"NoSuchUpload", "NoSuchKey", "404"})

#: Remembered while a multipart upload is being created: who dies then leaves one whose id nobody knows.
UNKNOWN_ID = "?"


def code_of(error: ClientError) -> str:
    """Return the code of an error of S3, such as ``NoSuchKey``; the HTTP status where there was no body."""
    return str(error.response.get("Error", {}).get("Code", ""))


class ConditionFailed(Exception):
    """The source is another one than was meant, or there is an object of the target's name; nothing was changed."""


@dataclass(frozen=True)
class Copy:
    """What is to be copied.

    Attributes:
        bucket: Of both.
        source, target: The keys of the objects, with the storage's location.
        size: The source's, in bytes.
        etag: The source's, with its quotes; a source that changed is not copied.
        parameters: What the new object gets: ``ContentType``, ``Metadata``, ``ACL`` and so on, as for ``put_object``.
        source_access: Parameters that reading the source takes (``CopySource...``).
        part_access: Parameters that each piece of the new object takes.
        only_new: Whether the service is asked not to replace an object.
    """

    bucket: str
    source: str
    target: str
    size: int
    etag: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    source_access: Mapping[str, Any] = field(default_factory=dict)
    part_access: Mapping[str, Any] = field(default_factory=dict)
    only_new: bool = True

    @property
    def origin(self) -> dict[str, Any]:
        """The parameters that name the source."""
        source = {"Bucket": self.bucket, "Key": self.source}
        return {"CopySource": source, "CopySourceIfMatch": self.etag, **self.source_access}

    @property
    def condition(self) -> dict[str, str]:
        """The parameters that keep what has the target's name."""
        return {"IfNoneMatch": "*"} if self.only_new else {}


def plan_pieces(size: int) -> list[tuple[int, int]]:
    """Return (first byte, last byte) of each piece of an object of ``size`` bytes; at most 10,000 pieces."""
    piece = min(max(SMALLEST_PIECE, -(-size // 1000)), LARGEST_PIECE)
    return [(start, min(start + piece, size) - 1) for start in range(0, size, piece)]


def copy_object(client: Any, copy: Copy, known_id: str, remember: Callable[[str], None]) -> None:
    """Make a copy. May be repeated; a repeat replaces what was made before, where ``only_new`` does not forbid it.

    Args:
        client: boto3's low-level client.
        copy: What is to be copied.
        known_id: The multipart upload of an interrupted copy; empty for none.
        remember: Called with ``UNKNOWN_ID`` before a multipart upload is created, with its id before its first piece,
            and with an empty text after an abort.

    Raises:
        ConditionFailed: The source has changed, or the target exists.
        botocore.exceptions.ClientError: Anything else. A copy in pieces stays under way where that may help a repeat.
    """
    if copy.size <= SINGLE_LIMIT:
        _copy_at_once(client, copy)
    else:
        _copy_in_pieces(client, copy, known_id, remember)


def _copy_at_once(client: Any, copy: Copy) -> None:
    parameters = {**copy.parameters, "MetadataDirective": "REPLACE"}
    if "Tagging" in parameters:
        parameters["TaggingDirective"] = "REPLACE"
    answer = _call(client.copy_object, copy, **copy.origin, **copy.condition, **parameters)
    if not answer.get("CopyObjectResult", {}).get("ETag"):
        raise OSError(f"The service did not say that it copied {copy.source}")


def _copy_in_pieces(client: Any, copy: Copy, known_id: str, remember: Callable[[str], None]) -> None:
    pieces = plan_pieces(copy.size)
    upload_id = known_id
    done: dict[int, str] = {}
    if known_id == UNKNOWN_ID:
        give_up(client, copy.bucket, copy.target, known_id)
        upload_id = ""
    elif known_id:
        found = _find_pieces(client, copy, known_id, pieces)
        upload_id, done = ("", {}) if found is None else (known_id, found)
    if not upload_id:
        parameters = {name: value for name, value in copy.parameters.items() if name not in NOT_IN_PARTS}
        remember(UNKNOWN_ID)
        answer = client.create_multipart_upload(Bucket=copy.bucket, Key=copy.target, **parameters)
        upload_id = str(answer["UploadId"])
        try:
            remember(upload_id)
        except BaseException:
            abort(client, copy.bucket, copy.target, upload_id)
            raise
    try:
        etags = {**done, **_copy_missing(client, copy, upload_id, pieces, done)}
        parts = [{"PartNumber": number, "ETag": etags[number]} for number in sorted(etags)]
        target = {"UploadId": upload_id, "MultipartUpload": {"Parts": parts}}
        _call(client.complete_multipart_upload, copy, **target, **copy.condition, **copy.part_access)
    except ConditionFailed:
        # It can never be completed; other failures leave it to the repeat.
        abort(client, copy.bucket, copy.target, upload_id)
        remember("")
        raise


def _copy_missing(
    client: Any, copy: Copy, upload_id: str, pieces: list[tuple[int, int]], done: Mapping[int, str]
) -> dict[int, str]:
    """Copy the pieces that are not there and return their ETags by number, from 1."""

    def copy_piece(number: int) -> tuple[int, str]:
        first, last = pieces[number - 1]
        answer = _call(
            client.upload_part_copy,
            copy,
            UploadId=upload_id,
            PartNumber=number,
            CopySourceRange=f"bytes={first}-{last}",
            **copy.origin,
            **copy.part_access,
        )
        return number, str(answer["CopyPartResult"]["ETag"])

    missing = [number for number in range(1, len(pieces) + 1) if number not in done]
    with ThreadPoolExecutor(WIDTH, thread_name_prefix="async-uploads-copy") as pool:
        futures = [pool.submit(copy_piece, number) for number in missing]
        try:
            return dict(future.result() for future in futures)
        except BaseException:
            for future in futures:
                future.cancel()
            raise


def _find_pieces(client: Any, copy: Copy, upload_id: str, pieces: list[tuple[int, int]]) -> dict[int, str] | None:
    """Return the pieces of an interrupted copy by number; ``None`` when it is not there any more."""
    found: dict[int, str] = {}
    after = 0
    while True:
        try:
            answer = client.list_parts(
                Bucket=copy.bucket, Key=copy.target, UploadId=upload_id, PartNumberMarker=after, **copy.part_access
            )
        except ClientError as error:
            if code_of(error) in MISSING_UPLOAD:
                return None
            raise
        listed = answer.get("Parts", ())
        for part in listed:
            number = int(part["PartNumber"])
            first, last = pieces[number - 1] if number <= len(pieces) else (0, -1)
            if int(part["Size"]) == last - first + 1:
                found[number] = str(part["ETag"])
        if not answer.get("IsTruncated") or not listed:
            return found
        after = int(listed[-1]["PartNumber"])


def give_up(client: Any, bucket: str, key: str, known_id: str) -> None:
    """Forget the multipart upload of an interrupted copy, also one that was never remembered; repeatable.

    Args:
        client: boto3's low-level client.
        bucket: Where it is.
        key: The copy's, which was promised to it alone.
        known_id: As ``remember`` was told last.
    """
    if known_id != UNKNOWN_ID:
        return abort(client, bucket, key, known_id)
    try:
        found = client.list_multipart_uploads(Bucket=bucket, Prefix=key).get("Uploads", ())
    except ClientError as error:
        if code_of(error) not in NOT_ALLOWED:
            raise
        logger.warning("May not list the multipart uploads of %s: a lifecycle rule has to end them", key)
        return
    for each in found:
        if each["Key"] == key:
            abort(client, bucket, key, each["UploadId"])


def abort(client: Any, bucket: str, key: str, upload_id: str) -> None:
    """Forget a multipart upload; one that is not there is no error."""
    try:
        client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
    except ClientError as error:
        if code_of(error) not in MISSING_UPLOAD:
            raise


def _call(method: Callable[..., Any], copy: Copy, **parameters: Any) -> Any:
    """Make a request about the target; without conditions where the service does not know them.

    Raises:
        ConditionFailed: One did not hold.
    """
    target = {"Bucket": copy.bucket, "Key": copy.target}
    try:
        return method(**target, **parameters)
    except ClientError as error:
        code = code_of(error)
        if code in PRECONDITION_FAILED:
            raise ConditionFailed(code) from error
        if code not in NOT_IMPLEMENTED or "IfNoneMatch" not in parameters:
            raise
    logger.info("The service does not know If-None-Match; %s is copied without it", copy.target)
    del parameters["IfNoneMatch"]
    return method(**target, **parameters)
