"""Uploads and files in a bucket of Amazon S3, or of a service that speaks its protocol; on django-storages.

Rules for editors: what is done to an object of a permanent name goes by the storage's options as if django-storages
had saved it; a temporary object has only what it needs (type, name, encryption), and is never public.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured
from django.core.files import File
from django.utils.deconstruct import deconstructible
from django.utils.http import content_disposition_header

from async_uploads import conf, journal, manifests, sniffing
from async_uploads.records import build_record, read_state
from async_uploads.storage import s3_copy, s3_post
from async_uploads.storage.base import GenerateUploadUrlResponse, shorten
from async_uploads.storage.cloud import CloudAsyncUploadStorage, ObjectFacts, mark_source
from async_uploads.storage.downloads import build_download_headers
from async_uploads.storage.s3_probe import Probe

try:
    from botocore.config import Config
    from botocore.exceptions import ClientError
    from storages.backends.s3 import S3Storage  # type: ignore[import-untyped]  # no stubs
    from storages.utils import ReadBytesWrapper, clean_name, setting  # type: ignore[import-untyped]  # no stubs
except ImportError as error:
    raise ImproperlyConfigured("S3AsyncUploadStorage needs django-async-uploads[s3].") from error

from tus_server.parts import S3_LIMITS
from tus_server.stores.buffers import shared_budget
from tus_server.stores.s3 import S3Store

if TYPE_CHECKING:
    from tus_server.stores.base import Records
    from tus_server.stores.s3_client import S3Client

#: Canned ACLs with which strangers can read an object.
PUBLIC_ACLS = frozenset({"public-read", "public-read-write", "authenticated-read"})
#: Parameters of ``put_object`` that temporary objects have too.
ENCRYPTION = (*s3_post.ENCRYPTION_FIELDS, "SSECustomerAlgorithm", "SSECustomerKey", "SSECustomerKeyMD5")
CUSTOMER_KEY = ("SSECustomerAlgorithm", "SSECustomerKey", "SSECustomerKeyMD5")
EVERYWHERE = ("ExpectedBucketOwner", "RequestPayer")
#: What S3 says of an object that was stored without a type.
UNKNOWN_TYPES = ("", "binary/octet-stream", sniffing.UNKNOWN)
#: What ``generate_presigned_url`` calls the headers of a download.
RESPONSE_HEADERS = {
    "cache_control": "ResponseCacheControl",
    "content_disposition": "ResponseContentDisposition",
    "content_encoding": "ResponseContentEncoding",
    "content_language": "ResponseContentLanguage",
    "content_type": "ResponseContentType",
}
#: At least so many connections: the threads that send parts of all uploads, and a few copies.
CONNECTIONS = 48

_client_lock = Lock()


@deconstructible(path="async_uploads.storage.s3.S3AsyncUploadStorage")
class S3AsyncUploadStorage(CloudAsyncUploadStorage, S3Storage):  # type: ignore[misc]  # S3Storage is untyped
    """``S3Storage`` of django-storages that takes uploads, with all of its options.

    Args:
        settings: Any: the options of django-storages, and ``transport``, ``zero_copy`` (see
            ``CloudAsyncUploadStorage``), ``conditional_writes``: whether the service takes ``If-None-Match`` with
            PutObject, CopyObject and CompleteMultipartUpload (default: only Amazon's), and ``max_parts``: how many
            parts it takes.
    """

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
            if s3_copy.code_of(error) in ("404", "NoSuchKey", "NotFound"):
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
            if code in ("404", "NoSuchKey", "NotFound", "InvalidRange", "416"):
                raise FileNotFoundError(f"There is no object {name}") from error
            raise
        with answer["Body"] as body:
            data: bytes = body.read()
        total = str(answer.get("ContentRange", "")).rpartition("/")[2]
        return data, _build_facts(answer, int(total) if total.isdecimal() else len(data))

    def _remove_object(self, name: str, etag: str = "") -> None:
        """Delete what lies at this very name; with ``etag`` only that (it is looked at before)."""
        if etag:
            facts = self._stat(name)
            if facts is None or facts.etag != etag:
                return
        try:
            self.client.delete_object(Bucket=self.bucket_name, Key=self.full_key(name), **self._access(name))
        except ClientError as error:
            if s3_copy.code_of(error) not in ("404", "NoSuchKey", "NotFound"):
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

    # Signed URLs.

    def generate_upload_url(
        self,
        key: str,
        field_id: str,
        *args: Any,
        fields: Mapping[str, Any] | None = None,
        conditions: Iterable[Any] | None = None,
        expire: int | None = None,
        **kwargs: Any,
    ) -> GenerateUploadUrlResponse:
        """Return a presigned POST, whose policy fixes the key, the type and all other fields.

        Args:
            key: The temporary key.
            field_id: The field's id in its registry.
            args, kwargs: Any: ignored.
            fields: Further fields of the form. Of those that a client may choose only harmless ones count (metadata,
                ``success_action_status``), unless a condition speaks of them.
            conditions: Of the policy, besides; ``["content-length-range", least, most]`` limits the size, in bytes.
            expire: Seconds that it is valid for; ``UPLOAD_URL_EXPIRY`` by default.
        """
        asked = dict(fields or {})
        given_type = next((str(value) for name, value in asked.items() if str(name).lower() == "content-type"), "")
        row = journal.find_by_key(key)
        filename = row.original_filename if row is not None else os.path.basename(key)
        parameters = self.temporary_parameters(key, given_type, filename)
        own = {"Content-Type": parameters["ContentType"], "Content-Disposition": parameters["ContentDisposition"]}
        for name, field in s3_post.ENCRYPTION_FIELDS.items():
            if name in parameters:
                value = parameters[name]
                own[field] = json.dumps(value) if isinstance(value, bool) else str(value)
        form, policy = s3_post.build_form(own, asked, conditions or ())
        answer = self.client.generate_presigned_post(
            self.bucket_name,
            self.full_key(key),
            Fields=form,
            Conditions=policy,
            ExpiresIn=expire or conf.get("UPLOAD_URL_EXPIRY"),
        )
        return {
            "url": answer["url"],
            "fields": answer["fields"],
            "method": "POST",
            "provider": "s3",
            "fileFieldName": "file",
        }

    def generate_download_url(
        self, key: str, field_id: str, *, expire: int | None = None, parameters: object = None, **kwargs: Any
    ) -> str:
        """Return where a browser downloads a file, under its true name.

        Where URLs are not signed (``querystring_auth`` is off, or a custom domain has no CloudFront key) the address is
        that of django-storages; the object itself tells its name then.

        Args:
            key: The file's name or key.
            field_id: The field's id in its registry.
            expire: Seconds that it is valid for; ``DOWNLOAD_URL_EXPIRY`` by default.
            parameters: Of GetObject (``ResponseContentDisposition``), or ``content_disposition`` and so on.
            kwargs: Any: ignored.
        """
        expire = expire or conf.get("DOWNLOAD_URL_EXPIRY")
        given = dict(parameters) if isinstance(parameters, Mapping) else {}
        if self.custom_domain or not self.querystring_auth:
            return str(S3Storage.url(self, key, parameters=given or None, expire=expire))
        headers = build_download_headers(self, key, given)
        answer = {RESPONSE_HEADERS[name]: value for name, value in headers.items()}
        others = {name: value for name, value in given.items() if str(name)[:1].isupper() and name not in answer}
        return str(
            self.client.generate_presigned_url(
                "get_object",
                Params={"Bucket": self.bucket_name, "Key": self.full_key(key), **others, **answer},
                ExpiresIn=expire,
            )
        )

    def probe(self) -> list[CheckMessage]:
        """Find out what the bucket lacks, by trying."""
        return Probe(self).run()

    # Promotion.

    def move_file(self, from_key: str, to_key: str) -> None:
        """Copy the file at ``from_key`` to ``to_key``, on S3's side. The source stays; see ``forget_source``.

        May be repeated after a crash at any line: what was copied is recognised by its metadata, an interrupted copy of
        a large file goes on.

        Raises:
            FileExistsError: Another object has that name and this storage does not overwrite; nothing was changed.
            FileNotFoundError: There is no upload at ``from_key``, nor its copy.
            OSError: The upload is not what was validated any more; nothing was changed.
        """
        if from_key == to_key:
            return
        if self._is_moved(from_key, to_key):
            return
        row = journal.rows().select_related("state").filter(key=from_key).first()
        source = self._find_source(from_key, row)
        copy = self._plan_copy(from_key, to_key, row, source)
        remember = partial(_remember_copy, row)
        try:
            s3_copy.copy_object(self.client, copy, row.copy_id if row is not None else "", remember)
        except s3_copy.ConditionFailed as error:
            if not self._is_moved(from_key, to_key):
                raise OSError(f"The upload {from_key} was changed while it was copied") from error
        except ClientError as error:
            if s3_copy.code_of(error) not in s3_copy.MISSING_UPLOAD or not self._is_moved(from_key, to_key):
                raise
        if row is not None and not row.metadata and self._has_changed(from_key, copy.etag):
            # Its URL still takes files, and some services copy whatever lies there.
            self.return_file(from_key, to_key, None)
            raise OSError(f"The upload {from_key} was changed while it was copied")
        if row is not None and row.copy_id:
            remember("")

    def _is_moved(self, from_key: str, to_key: str) -> bool:
        """Say whether the copy is there.

        Raises:
            FileExistsError: Something else is, and must stay.
        """
        facts = self._stat(to_key)
        if facts is None:
            return False
        if self._is_copy(facts, from_key):
            return True
        if not self.overwrites:
            raise FileExistsError(f"There is an object {to_key} already")
        return False

    def _find_source(self, key: str, row: journal.AsyncTempFile | None) -> ObjectFacts:
        """Return what is to be copied: as recorded when the upload was finished or validated, else as it lies there."""
        if row is not None and row.is_finished and row.length is not None:
            finished = manifests.find_manifest(row).finished if row.metadata else None
            etag = row.digest if finished is None else finished.etag
            if etag and (finished is not None or not row.metadata):
                return ObjectFacts(row.length, f'"{etag.strip(chr(34))}"', row.media_type)
        facts = self._stat(key)
        if facts is None:
            raise FileNotFoundError(f"There is no object {key}")
        return facts

    def _has_changed(self, key: str, etag: str) -> bool:
        facts = self._stat(key)
        return facts is not None and facts.etag != etag

    def _plan_copy(
        self, from_key: str, to_key: str, row: journal.AsyncTempFile | None, source: ObjectFacts
    ) -> s3_copy.Copy:
        media_type = row.media_type if row is not None else ""
        if not media_type and source.media_type not in UNKNOWN_TYPES:
            media_type = source.media_type
        filename = row.original_filename if row is not None else os.path.basename(to_key)
        parameters = self.permanent_parameters(to_key, media_type, filename)
        metadata = {**parameters.get("Metadata", {}), self.source_mark: mark_source(from_key)}
        customer = self.read_parameters(from_key)
        return s3_copy.Copy(
            bucket=self.bucket_name,
            source=self.full_key(from_key),
            target=self.full_key(to_key),
            size=source.size,
            etag=source.etag,
            parameters={**parameters, "Metadata": metadata},
            source_access={f"CopySource{name}": customer[name] for name in CUSTOMER_KEY if name in customer},
            part_access=customer,
            only_new=not self.overwrites and self.takes_conditions(),
        )

    def return_file(self, key: str, name: str, length: int | None) -> None:
        """Delete the copy that an interrupted move made, also one that is only half there."""
        row = journal.find_by_key(key)
        if row is not None and row.copy_id and key != name:
            s3_copy.abort(self.client, self.bucket_name, self.full_key(name), row.copy_id)
            _remember_copy(row, "")
        super().return_file(key, name, length)

    # tus.

    def upload_store(self, records: Records) -> S3Store:
        """Return the store whose objects lie below this storage's location."""
        return cast("S3Store", self._find_store(records, partial(self._build_store, records)))

    def _build_store(self, records: Records) -> S3Store:
        return S3Store(
            cast("S3Client", LazyClient(self)),
            self.bucket_name,
            records,
            manifests.ModelManifests(),
            location=self.location,
            segments=self.temporary_key_prefix,
            put_parameters=lambda record: self.upload_parameters(record.object_name, record.facts),
            common=self._access("", *ENCRYPTION),
            buffers=shared_budget(lambda: int(conf.get("RECEIVE_BUFFER_LIMIT"))),
            conditional=self.takes_conditions(),
            limits=replace(S3_LIMITS, most=self.max_parts),
        )

    def forget_source(self, row: journal.AsyncTempFile) -> None:
        """Delete what lies at the key of a promoted upload, and segments that a dead process may have left beside."""
        super().forget_source(row)
        if manifests.find_manifest(row).revision > 2:  # what came in one request never had a segment
            self.upload_store(cast("Records", None)).drop_segments(row.upload_id)

    def discard_upload(self, row: journal.AsyncTempFile) -> bool:
        """Remove an upload that nobody took over: parts, segments and object, the latter only if it is the upload's."""
        if row.copy_id and row.moved_to_location:
            s3_copy.abort(self.client, self.bucket_name, self.full_key(row.moved_to_location), row.copy_id)
        if not row.metadata:  # tus keeps its metadata; a signed upload has none
            self._remove_object(row.place)
            return True
        record = build_record(row, state=read_state(row))
        return bool(self.upload_store(cast("Records", None)).discard(record))


class LazyClient:
    """A storage's client that is made when it is first called: asking for a store costs nothing."""

    def __init__(self, storage: S3AsyncUploadStorage) -> None:
        self._storage = storage

    def __getattr__(self, name: str) -> Any:  # Any: each call has its own signature
        return getattr(self._storage.client, name)


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


def _remember_copy(row: journal.AsyncTempFile | None, copy_id: str) -> None:
    if row is not None:
        journal.rows().filter(pk=row.pk, promoted_at=None).update(copy_id=copy_id)
        row.copy_id = copy_id
