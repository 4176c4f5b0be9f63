"""What a bucket lacks, found out by trying: an object is written, read, copied and deleted under the temporary prefix.

Run by ``manage.py check --deploy --database default --tag async_uploads_buckets``. Nothing is left behind.
"""

from __future__ import annotations

import datetime
import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from django.core.checks import CheckMessage, Error, Info, Warning

from async_uploads import conf
from async_uploads.storage.s3_copy import MISSING_UPLOAD, NOT_IMPLEMENTED, PRECONDITION_FAILED, code_of

if TYPE_CHECKING:
    from async_uploads.storage.s3_objects import S3Objects

CONTENT = b"written by a check of django-async-uploads"
DENIED = frozenset({"AccessDenied", "403", "Forbidden", "AllAccessDisabled"})
#: What services answer that have no such configuration, or none at all.
UNCONFIGURED = frozenset({"NoSuchLifecycleConfiguration", "NoSuchCORSConfiguration"})
CORS = {
    "AllowedOrigins": ["https://www.example.com"],
    "AllowedMethods": ["POST"],
    "AllowedHeaders": ["*"],
    "ExposeHeaders": ["ETag"],
}


class Probe:
    """Tries what a storage needs of its bucket.

    Args:
        storage: The storage.
    """

    def __init__(self, storage: S3Objects) -> None:
        self.storage = storage
        self.client = storage.client
        name = f"{storage.temporary_key_prefix}/check-{secrets.token_hex(8)}"
        self.key = storage.full_key(name)
        self.target = {"Bucket": storage.bucket_name, "Key": self.key}
        self.parameters = storage.temporary_parameters(name, "text/plain", "check.txt")
        self.access = storage.read_parameters(name)
        self.found: list[CheckMessage] = []

    def run(self) -> list[CheckMessage]:
        """Return what is missing; nothing is left in the bucket."""
        if not self._can_look():
            return self.found
        try:
            if self._can("s3:PutObject", self._put) and self._can("s3:GetObject", self._get):
                self._try_privacy()
                takes = self._takes_condition(lambda: self._put(IfNoneMatch="*"))
                self._judge_conditions(self._try_multipart(takes))
                self._try_copy()
        finally:
            self._can("s3:DeleteObject", lambda: self.client.delete_object(**self.target))
        self._judge_cors()
        self._judge_lifecycle()
        return self.found

    def _report(self, kind: type[Error | Warning | Info], number: str, text: str, hint: str) -> None:
        message = f"The bucket {self.storage.bucket_name!r}: {text}"
        self.found.append(kind(message, hint=hint, id=f"async_uploads.{number}"))

    # Permissions.

    def _can_look(self) -> bool:
        """Ask for an object that is not there: only who may list the bucket is told so."""
        try:
            self.client.head_object(**self.target, **self.access)
        except ClientError as error:
            code = code_of(error)
            if code in DENIED:
                hint = "Allow s3:ListBucket: without it a missing object cannot be told from a secret one."
                self._report(Error, "E102", "whether an object is there is not answered (403).", hint)
            elif code in MISSING_UPLOAD and not self._has_bucket():
                hint = "Look at bucket_name, region_name, endpoint_url."
                self._report(Error, "E101", "there is no such bucket.", hint)
                return False
            elif code not in MISSING_UPLOAD:
                hint = "Look at bucket_name, region_name, endpoint_url and the credentials."
                self._report(Error, "E101", f"it cannot be used: {error}", hint)
                return False
        except BotoCoreError as error:
            hint = "Look at region_name, endpoint_url and the credentials."
            self._report(Error, "E101", f"the service cannot be reached: {error}", hint)
            return False
        return True

    def _has_bucket(self) -> bool:
        try:
            self.client.head_bucket(Bucket=self.storage.bucket_name)
        except ClientError as error:
            return code_of(error) in DENIED
        return True

    def _can(self, permission: str, action: Callable[[], Any]) -> bool:
        try:
            action()
        except (ClientError, BotoCoreError) as error:
            hint = f"Allow {permission} on its objects, or see what the service says."
            self._report(Error, "E103", f"{permission} failed: {error}", hint)
            return False
        return True

    def _put(self, **condition: str) -> Any:
        return self.client.put_object(**self.target, Body=CONTENT, **self.parameters, **condition)

    def _get(self) -> None:
        with self.client.get_object(**self.target, Range="bytes=0-3", **self.access)["Body"] as body:
            if body.read() != CONTENT[:4]:
                hint = "Nothing can be stored here. Ask who runs the service."
                self._report(Error, "E104", "what is read is not what was written.", hint)

    # Conditions.

    def _takes_condition(self, action: Callable[[], Any]) -> bool:
        """Say whether a request about an object that is there, on condition that it is not, is refused."""
        try:
            action()
        except ClientError as error:
            if code_of(error) in PRECONDITION_FAILED:
                return True
            if code_of(error) not in NOT_IMPLEMENTED:
                raise
        return False

    def _try_multipart(self, takes: bool) -> bool:
        """Try a multipart upload; returns whether it takes conditions too."""
        started: list[str] = []

        def begin() -> None:
            started.append(self.client.create_multipart_upload(**self.target, **self.parameters)["UploadId"])

        if not self._can("s3:PutObject (multipart uploads)", begin):
            return takes
        upload = {**self.target, "UploadId": started[0]}
        try:
            part = self.client.upload_part(**upload, PartNumber=1, Body=CONTENT, **self.access)
            self._can("s3:ListMultipartUploadParts", lambda: self.client.list_parts(**upload, **self.access))
            parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
            complete = {**upload, "MultipartUpload": parts, "IfNoneMatch": "*", **self.access}
            return self._takes_condition(lambda: self.client.complete_multipart_upload(**complete)) and takes
        except (ClientError, BotoCoreError) as error:
            hint = "Without multipart uploads only small files can be stored. Ask who runs the service."
            self._report(Error, "E105", f"a multipart upload failed: {error}", hint)
            return takes
        finally:
            self._can("s3:AbortMultipartUpload", lambda: self._abort(upload))

    def _abort(self, upload: Mapping[str, str]) -> None:
        try:
            self.client.abort_multipart_upload(**upload)
        except ClientError as error:
            if code_of(error) not in MISSING_UPLOAD:
                raise

    def _judge_conditions(self, takes: bool) -> None:
        if self.storage.takes_conditions() and not takes:
            hint = "Set the storage's option conditional_writes=False: names are looked at before they are taken."
            self._report(Warning, "W101", "If-None-Match is not heeded, although it is sent.", hint)
        elif takes and not self.storage.takes_conditions():
            hint = "Set the storage's option conditional_writes=True: then no other file can be replaced by accident."
            self._report(Info, "I101", "If-None-Match is heeded, but not sent.", hint)

    def _try_copy(self) -> None:
        source = {"Bucket": self.storage.bucket_name, "Key": self.key}
        copy = {**self.target, "CopySource": source, "MetadataDirective": "REPLACE", **self.parameters, **self.access}
        if not self._can("s3:GetObject and s3:PutObject (copies)", lambda: self.client.copy_object(**copy)):
            return
        with suppress(ClientError):
            self.client.copy_object(**copy, CopySourceIfMatch='"0"')
            hint = "Nothing to do: the source of a signed upload is looked at again after its copy was made."
            self._report(Info, "I102", "CopySourceIfMatch is not heeded.", hint)

    def _try_privacy(self) -> None:
        """Read without a signature."""
        if not self.storage.is_private():
            return
        config = self.storage.client_config.merge(Config(signature_version=UNSIGNED))
        meta = self.client.meta
        where = {"region_name": meta.region_name, "endpoint_url": meta.endpoint_url, "verify": self.storage.verify}
        stranger = self.storage._create_session().client("s3", config=config, **where)
        with suppress(ClientError, BotoCoreError):
            stranger.get_object(**self.target)["Body"].close()
            hint = "Block public access to the bucket, or say querystring_auth=False and zero_copy=False."
            self._report(Warning, "W107", "anybody can read what lies under the temporary prefix.", hint)

    # Configuration.

    def _read(self, method: Callable[..., Any], what: str, permission: str) -> Mapping[str, Any] | None:
        """Return a configuration, empty where there is none; ``None`` where it cannot be read."""
        try:
            answer: Mapping[str, Any] = method(Bucket=self.storage.bucket_name)
        except (ClientError, BotoCoreError) as error:
            if isinstance(error, ClientError) and code_of(error) in UNCONFIGURED:
                return {}
            hint = f"Allow {permission} for this check, or look yourself."
            self._report(Info, "I103", f"its {what} cannot be read: {error}", hint)
            return None
        return answer

    def _judge_cors(self) -> None:
        """Browsers send signed uploads to the bucket themselves; tus goes through Django."""
        if self.storage.transport != "signed":
            return
        answer = self._read(self.client.get_bucket_cors, "CORS rules", "s3:GetBucketCORS")
        if answer is None:
            return
        rules = [rule for rule in answer.get("CORSRules", ()) if "POST" in rule.get("AllowedMethods", ())]
        hint = f"Add this rule, with your own origins: {json.dumps(CORS)}"
        if not rules:
            self._report(Warning, "W102", "no CORS rule lets browsers send files (POST).", hint)
        elif not any("etag" in map(str.lower, rule.get("ExposeHeaders", ())) for rule in rules):
            self._report(Warning, "W103", "no CORS rule shows browsers the header ETag.", hint)

    def _judge_lifecycle(self) -> None:
        answer = self._read(
            self.client.get_bucket_lifecycle_configuration, "lifecycle rules", "s3:GetLifecycleConfiguration"
        )
        if answer is None:
            return
        enabled = [rule for rule in answer.get("Rules", ()) if rule.get("Status") == "Enabled"]
        rules = [(prefix, rule) for rule in enabled if (prefix := _prefix_of(rule)) is not None]
        lifetime = conf.get_duration("UPLOAD_LIFETIME")
        least = lifetime // datetime.timedelta(days=1) + 2
        # With zero copy, and for copies of large files, multipart uploads are made under every name of the storage.
        location = self.storage.location.strip("/")
        place = f"{location}/" if location else ""
        temporary = f"{self.storage.full_key(self.storage.temporary_key_prefix)}/"
        hint = (
            f"Add a rule with AbortIncompleteMultipartUpload, DaysAfterInitiation of at least {least} and the prefix "
            f"{place!r}: it removes what a crash left behind."
        )
        found = list(self._list_aborts(rules))
        if not any(place.startswith(prefix) for prefix, _ in found):
            self._report(Warning, "W104", f"no lifecycle rule removes half uploads of all of {place!r}.", hint)
        soonest = min((count for prefix, count in found if _overlap(prefix, place)), default=least)
        if soonest < least:
            text = f"half uploads are removed {soonest} days after they began, but they may live for {lifetime}."
            self._report(Warning, "W105", text, hint)
        if any(rule.get("Expiration") and _overlap(prefix, temporary) for prefix, rule in rules):
            hint = "Leave that to cleanup_async_temp_files: saved files may still lie there and wait for their copy."
            self._report(Warning, "W106", f"a lifecycle rule deletes objects below {temporary!r}.", hint)

    @staticmethod
    def _list_aborts(rules: list[tuple[str, Any]]) -> Iterator[tuple[str, int]]:
        for prefix, rule in rules:
            count = rule.get("AbortIncompleteMultipartUpload", {}).get("DaysAfterInitiation")
            if count is not None:
                yield prefix, int(count)


def _prefix_of(rule: Mapping[str, Any]) -> str | None:
    """Return the prefix that a rule is for; ``None`` for one that asks more of an object than its name."""
    condition = rule.get("Filter", {})
    both = condition.get("And", {})
    if "Tag" in condition or both.get("Tags") or "ObjectSizeGreaterThan" in {**condition, **both}:
        return None
    return str(both.get("Prefix") or condition.get("Prefix") or rule.get("Prefix") or "")


def _overlap(one: str, other: str) -> bool:
    """Say whether there are names that begin with both prefixes."""
    return one.startswith(other) or other.startswith(one)
