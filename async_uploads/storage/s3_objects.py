"""Objects in a bucket of S3, as the storage's options of django-storages say: looked at, read, stored, deleted.

Rules for editors: what is done to an object of a permanent name goes by the storage's options as if django-storages
had saved it; a temporary object has only what it needs (type, name, encryption), and is never public.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from django.core.files import File
from django.utils.http import content_disposition_header
from storages.backends.s3 import S3Storage  # type: ignore[import-untyped]  # no stubs
from storages.utils import ReadBytesWrapper, clean_name, setting  # type: ignore[import-untyped]  # no stubs

from async_uploads import sniffing
from async_uploads.storage import s3_copy, s3_post
from async_uploads.storage.base import VerifiedUpload, shorten
from async_uploads.storage.cloud import CloudAsyncUploadStorage, ObjectFacts
from tus_server.errors import StoreUnavailable
from tus_server.parts import S3_LIMITS

#: Canned ACLs with which strangers can read an object.
PUBLIC_ACLS = frozenset({"public-read", "public-read-write", "authenticated-read"})
CUSTOMER_KEY = ("SSECustomerAlgorithm", "SSECustomerKey", "SSECustomerKeyMD5")
#: Parameters of ``put_object`` that temporary objects have too.
ENCRYPTION = (*s3_post.ENCRYPTION_FIELDS, *CUSTOMER_KEY)
EVERYWHERE = ("ExpectedBucketOwner", "RequestPayer")
#: What services answer about an object that is not there.
MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
#: At least so many connections: the threads that send parts of all uploads, and a few copies.
CONNECTIONS = 48

_client_lock = Lock()


class S3Objects(CloudAsyncUploadStorage, S3Storage):  # type: ignore[misc]  # S3Storage is untyped
    """``S3Storage`` with one client for all threads; see ``S3AsyncUploadStorage`` for its options."""

    conditional_writes: bool | None = None
    max_parts: int = S3_LIMITS.most
    client_config: Any  # botocore's Config, of which stubs need not be there

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.overwrites = bool(self.file_overwrite)
        self.client_config = self._complete_config(self.client_config)

    def get_default_settings(self) -> dict[str, Any]:
        """Return the options; unlike in django-storages a file is not overwritten unless that is asked for."""
        overwrite = setting("AWS_S3_FILE_OVERWRITE", False)
        ours = {"file_overwrite": overwrite, "conditional_writes": None, "max_parts": S3_LIMITS.most}
        return {**super().get_default_settings(), **ours}

    def _forget_connections(self) -> None:
        super()._forget_connections()
        self._client: Any = None
        self._client_pid = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state.pop("_client", None)
        return state

    def _complete_config(self, config: Any) -> Any:
        given = getattr(config, "_user_provided_options", {})
        missing: dict[str, Any] = {}
        if given.get("signature_version") is None:
            # Else botocore signs URLs by the version that younger regions and most other services refuse.
            missing["signature_version"] = "s3v4"
        if given.get("max_pool_connections", 0) < CONNECTIONS:
            missing["max_pool_connections"] = CONNECTIONS
        if not self.is_amazon():
            for name in ("request_checksum_calculation", "response_checksum_validation"):
                if given.get(name) is None:
                    missing[name] = "when_required"
        return config.merge(Config(**missing))

    def is_amazon(self) -> bool:
        """Say whether the bucket is one of Amazon's, as far as the endpoint tells."""
        endpoint = (
            self.endpoint_url or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        )
        host = urlsplit(endpoint).hostname or ""
        return not endpoint or host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu"))

    def takes_conditions(self) -> bool:
        """Say whether ``If-None-Match`` is sent."""
        return self.is_amazon() if self.conditional_writes is None else self.conditional_writes

    @property
    def client(self) -> Any:
        """boto3's low-level client, one for all threads of a process (django-storages makes a resource for each)."""
        if self._client is None or self._client_pid != os.getpid():
            with _client_lock:  # sessions are not made to be used by several threads
                if self._client is None or self._client_pid != os.getpid():
                    self._client_pid = os.getpid()
                    self._client = self._create_session().client(
                        "s3",
                        region_name=self.region_name,
                        use_ssl=self.use_ssl,
                        endpoint_url=self.endpoint_url,
                        config=self.client_config,
                        verify=self.verify,
                    )
        return self._client

    def identity(self) -> str:
        """Return endpoint, bucket and location."""
        endpoint = (self.endpoint_url or "").rstrip("/")
        return shorten(f"s3:{endpoint}/{self.bucket_name}/{self.location.strip('/')}")

    def is_private(self) -> bool:
        """Say whether objects are read by signed URLs alone, as far as the options tell."""
        acl = self.get_object_parameters("").get("ACL", self.default_acl)
        is_signed = self.cloudfront_signer is not None if self.custom_domain else True
        return bool(self.querystring_auth) and is_signed and acl not in PUBLIC_ACLS

    # Objects.

    def full_key(self, name: str) -> str:
        """Return an object's key in the bucket: the name below the storage's location."""
        return str(self._normalize_name(clean_name(name)))

    def _access(self, name: str, *names: str) -> dict[str, Any]:
        parameters = self.get_object_parameters(name)
        return {each: parameters[each] for each in (*names, *EVERYWHERE) if each in parameters}

    def read_parameters(self, name: str) -> dict[str, Any]:
        """Return what reading an object takes besides its key: a key of the customer's, who pays, whose bucket."""
        return self._access(name, *CUSTOMER_KEY)

    def _stat(self, name: str) -> ObjectFacts | None:
        """Return what lies at this very name, by one HeadObject."""
        try:
            answer = self.client.head_object(
                Bucket=self.bucket_name, Key=self.full_key(name), **self.read_parameters(name)
            )
        except ClientError as error:
            if s3_copy.code_of(error) in MISSING:
                return None
            raise
        return _build_facts(answer, int(answer["ContentLength"]))

    def _fetch(self, name: str, start: int, count: int) -> tuple[bytes, ObjectFacts]:
        """Return bytes by one GetObject with a range."""
        try:
            answer = self.client.get_object(
                Bucket=self.bucket_name,
                Key=self.full_key(name),
                Range=f"bytes={start}-{start + count - 1}",
                **self.read_parameters(name),
            )
        except ClientError as error:
            code = s3_copy.code_of(error)
            if code in ("InvalidRange", "416") and (facts := self._stat(name)) is not None and start >= facts.size:
                return b"", facts
            if code in MISSING or code in ("InvalidRange", "416"):
                raise FileNotFoundError(f"There is no object {name}") from error
            raise
        with answer["Body"] as body:
            data: bytes = body.read()
        total = str(answer.get("ContentRange", "")).rpartition("/")[2]
        return data, _build_facts(answer, int(total) if total.isdecimal() else len(data))

    def verify_upload(self, key: str, max_size: int | None) -> VerifiedUpload | None:
        """See ``CloudAsyncUploadStorage``."""
        try:
            return super().verify_upload(key, max_size)
        except (BotoCoreError, ClientError) as error:
            raise StoreUnavailable("The bucket cannot be used right now.") from error

    def _remove_object(self, name: str, etag: str = "") -> None:
        """Delete what lies at this very name; with ``etag`` only that (it is looked at before)."""
        if etag:
            facts = self._stat(name)
            if facts is None or facts.etag != etag:
                return
        try:
            self.client.delete_object(Bucket=self.bucket_name, Key=self.full_key(name), **self._access(name))
        except ClientError as error:
            if s3_copy.code_of(error) not in MISSING:
                raise

    def delete(self, name: str) -> None:
        """Delete what lies at this very name."""
        self._remove_object(name)

    def _save(self, name: str, content: File[Any]) -> str:
        """Store a file as django-storages does; a temporary one is never packed, and never public."""
        if not self.is_temporary_path(name):
            return str(super()._save(name, content))
        cleaned: str = clean_name(name)
        parameters = self.temporary_parameters(cleaned, sniffing.guess_type(name) or "", os.path.basename(name))
        content.seek(0)
        wrapped = ReadBytesWrapper(content)
        wrapped.close = lambda: None  # boto3 closes what it has sent
        self.client.upload_fileobj(
            wrapped, self.bucket_name, self.full_key(cleaned), ExtraArgs=parameters, Config=self.transfer_config
        )
        return cleaned

    # What objects are stored with.

    def temporary_parameters(self, name: str, media_type: str, filename: str) -> dict[str, Any]:
        """Return what an object at a key gets, as parameters of ``put_object``: its type, its name, its encryption."""
        parameters = self.get_object_parameters(name)
        kept = {each: parameters[each] for each in (*ENCRYPTION, *EVERYWHERE) if each in parameters}
        return {**describe(media_type, filename), **kept}

    def permanent_parameters(self, name: str, media_type: str, filename: str) -> dict[str, Any]:
        """Return what an object of a permanent name gets: all that the storage's options say, and what they leave open.

        No ``ContentEncoding`` is guessed: an uploaded ``.tar.gz`` is a file, not a way to send one.
        """
        parameters = {**describe(media_type, filename), **self.get_object_parameters(self.full_key(name))}
        if "ACL" not in parameters and self.default_acl:
            parameters["ACL"] = self.default_acl
        return parameters

    def upload_parameters(self, name: str, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the object of a tus upload gets.

        Args:
            name: Where its bytes go.
            facts: What the journal says of it: ``key``, ``filename``, ``media_type``.
        """
        build = self.permanent_parameters if name != facts.get("key") else self.temporary_parameters
        parameters = build(name, str(facts.get("media_type", "")), str(facts.get("filename", "")))
        return {each: value for each, value in parameters.items() if each not in s3_copy.NOT_IN_PARTS}


def describe(media_type: str, filename: str) -> dict[str, str]:
    """Return the headers by which an object tells its type and its true name; shown in a page only where harmless."""
    kind = media_type or sniffing.guess_type(filename) or sniffing.UNKNOWN
    disposition = content_disposition_header(kind not in sniffing.INLINE_TYPES, filename.replace("/", "_") or "file")
    return {"ContentType": kind, "ContentDisposition": disposition or "attachment"}


def _build_facts(answer: Mapping[str, Any], size: int) -> ObjectFacts:
    return ObjectFacts(
        size=size,
        etag=str(answer.get("ETag", "")),
        media_type=str(answer.get("ContentType", "")),
        metadata=answer.get("Metadata") or {},
        encoding=str(answer.get("ContentEncoding", "")),
    )
