"""Uploads and files in a bucket of Amazon S3, or of a service that speaks its protocol; on django-storages.

Here: signed URLs, copies to permanent names, and the store for tus. What an object is stored with: ``s3_objects``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured
from django.utils.deconstruct import deconstructible

try:
    from botocore.exceptions import ClientError
    from storages.backends.s3 import S3Storage  # type: ignore[import-untyped]  # no stubs
except ImportError as error:
    raise ImproperlyConfigured("S3AsyncUploadStorage needs django-async-uploads[s3].") from error

from async_uploads import conf, journal, manifests, sniffing
from async_uploads.records import build_record, read_state
from async_uploads.storage import s3_copy, s3_post
from async_uploads.storage.base import GenerateUploadUrlResponse
from async_uploads.storage.cloud import ObjectFacts, mark_source
from async_uploads.storage.downloads import build_download_headers
from async_uploads.storage.s3_objects import CUSTOMER_KEY, ENCRYPTION, S3Objects
from async_uploads.storage.s3_probe import Probe
from tus_server.parts import S3_LIMITS
from tus_server.stores.buffers import shared_budget
from tus_server.stores.s3 import S3Store

if TYPE_CHECKING:
    from tus_server.stores.base import Records
    from tus_server.stores.s3_client import S3Client

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


@deconstructible(path="async_uploads.storage.s3.S3AsyncUploadStorage")
class S3AsyncUploadStorage(S3Objects):
    """``S3Storage`` of django-storages that takes uploads, with all of its options.

    Args:
        settings: Any: the options of django-storages, and ``transport``, ``zero_copy`` (see
            ``CloudAsyncUploadStorage``), ``conditional_writes``: whether the service takes ``If-None-Match`` with
            PutObject, CopyObject and CompleteMultipartUpload (default: only Amazon's), and ``max_parts``: how many
            parts it takes.
    """

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
            s3_copy.give_up(self.client, self.bucket_name, self.full_key(name), row.copy_id)
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
        self.remove_late_copy(row)
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


def _remember_copy(row: journal.AsyncTempFile | None, copy_id: str) -> None:
    """Write down the multipart upload of a copy.

    Raises:
        BlockingIOError: The upload was given back meanwhile, or somebody else has it: nobody would find the copy.
    """
    if row is not None:
        found = journal.rows().filter(pk=row.pk, claim=row.claim, promoted_at=None)
        if not found.update(copy_id=copy_id) and copy_id:
            raise BlockingIOError(f"{row.key} was given back while it was copied")
        row.copy_id = copy_id
