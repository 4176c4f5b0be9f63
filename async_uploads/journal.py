"""One row per upload, in the project's database: what was promised, whose it is, and who has claimed it.

Rules for editors: store facts, derive states (no status column). Reads go to the write database. Every statement is a
single autocommit statement or part of a short transaction. ``claim``, ``record``, ``moved_to_location`` and
``target_digest`` are written by ``promotion`` and ``cleanup`` only, always by a conditional UPDATE.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import FieldDoesNotExist
from django.db import InterfaceError, OperationalError, models, router
from django.urls import Resolver404, get_script_prefix, resolve
from django.utils import timezone

from async_uploads import conf
from async_uploads.values import MAX_NAME, is_storable
from tus_server.errors import StoreUnavailable
from tus_server.uploads import generate_upload_id

KEY_LENGTH = 500

#: Value of ``claim`` while the cleanup removes an upload: nobody can adopt it or write to it any more.
EXPIRED = "expired"

#: Value of ``claim`` while a claim is given back: the record does not hold it any more, nobody else can take it yet.
RETURNING = "returning"

#: What the names of our tus routes for one upload end with.
TUS_UPLOAD_ROUTE = "tus_upload"


if TYPE_CHECKING:
    _CharField = models.CharField[str, str]
else:
    _CharField = models.CharField


class ExactCharField(_CharField):
    """Text that is compared byte by byte on every database: keys, ids and names.

    By their default collations MySQL and MariaDB take ``A.txt`` for ``a.txt``, and leave trailing spaces out.
    """

    def db_parameters(self, connection: Any) -> Any:  # Any: as Django's stubs have it
        """Return what a column is made of; elsewhere than on MySQL and MariaDB that of any text column."""
        parameters = super().db_parameters(connection)
        if connection.vendor == "mysql":
            parameters["collation"] = "utf8mb4_nopad_bin" if connection.mysql_is_mariadb else "utf8mb4_0900_bin"
        return parameters


class AsyncTempFile(models.Model):
    """An upload, from its creation until some hours after a record has taken it over."""

    upload_id = ExactCharField(max_length=64, unique=True)
    key = ExactCharField(max_length=KEY_LENGTH, unique=True)
    created_at = models.DateTimeField(default=timezone.now)
    original_filename = models.CharField(max_length=MAX_NAME)
    content_type = models.ForeignKey(ContentType, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    field_name = models.CharField(max_length=255)
    # "app_label.Model.field": survives the loss of the content type.
    field_label = models.CharField(max_length=255)
    storage = models.CharField(max_length=255)
    owner = ExactCharField(max_length=255, blank=True)
    length = models.BigIntegerField(null=True, blank=True)
    metadata = models.TextField(blank=True)
    # Only a part of uploads to come: never a file of its own, no record takes it.
    is_partial = models.BooleanField(default=False)
    # Upload ids of the partial uploads that it is made of, in order, and the header that named them.
    partials = models.JSONField(default=list, blank=True)
    concat = models.TextField(blank=True)
    media_type = models.CharField(max_length=255, blank=True)
    digest = models.CharField(max_length=255, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True, db_index=True)
    last_activity = models.DateTimeField(default=timezone.now, db_index=True)
    object_name = ExactCharField(max_length=KEY_LENGTH, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    claim = models.CharField(max_length=32, null=True, blank=True)
    # "<database alias>:<primary key>" of the record that claimed it.
    record = ExactCharField(max_length=255, blank=True)
    moved_to_location = ExactCharField(max_length=KEY_LENGTH, blank=True, db_index=True)
    # Of (storage, moved_to_location), while claimed and not promoted: two pending uploads never get the same name.
    target_digest = models.CharField(max_length=64, null=True, blank=True, unique=True)
    promoted_at = models.DateTimeField(null=True, blank=True)
    # When nothing was left of it but the permanent file: at once, where that was renamed.
    source_removed_at = models.DateTimeField(null=True, blank=True)
    # When an expired upload's bytes were removed for the first time.
    discarded_at = models.DateTimeField(null=True, blank=True)
    # A multipart copy under way to its permanent name (S3): a repeat goes on with it.
    copy_id = models.TextField(blank=True)
    attempts = models.IntegerField(default=0)
    retry_at = models.DateTimeField(null=True, blank=True)
    error = models.TextField(blank=True)

    class Meta:
        app_label = "async_uploads"
        verbose_name = "upload"
        verbose_name_plural = "uploads"

    def __str__(self) -> str:
        return self.key

    @classmethod
    def build_for_field(cls, field: models.FileField, filename: str, **facts: Any) -> AsyncTempFile:
        """Return an unsaved row for an upload to a field, with a key made by the field's storage.

        Args:
            field: An ``AsyncFileField`` of a model.
            filename: The file's true name, cleaned.
            facts: Any: further columns (``owner``, ``length``, ``upload_id``, ...); ``None`` = the default.
        """
        storage: Any = field.storage  # Any: an AsyncUploadStorage; those live above this module
        length = min(field.max_length or KEY_LENGTH, KEY_LENGTH)
        key = storage.generate_temporary_path(filename, max_length=length)
        now = timezone.now()
        columns: dict[str, Any] = {
            "key": key,
            "object_name": key,
            "created_at": now,
            "last_activity": now,
            "original_filename": filename[:MAX_NAME],
            "content_type": ContentType.objects.db_manager(write_database()).get_for_model(field.model),
            "field_name": field.name,
            "field_label": get_field_label(field),
            "storage": storage.identity(),
            "expires_at": now + conf.get_duration("UPLOAD_LIFETIME"),
        }
        columns.update((name, value) for name, value in facts.items() if value is not None)
        if "upload_id" not in columns:
            columns["upload_id"] = generate_upload_id()
        return cls(**columns)

    @classmethod
    def create_for_field(cls, field: models.FileField, filename: str, **facts: Any) -> AsyncTempFile:
        """Build a row as ``build_for_field`` does, and store it."""
        row = cls.build_for_field(field, filename, **facts)
        row.save(using=write_database(), force_insert=True)
        return row

    @property
    def is_finished(self) -> bool:
        """Whether the bytes are all there, verified."""
        return self.finished_at is not None

    @property
    def is_claimed(self) -> bool:
        """Whether a record has taken it over (its file may still lie at the key)."""
        return self.claim is not None and self.claim != EXPIRED

    @property
    def is_promoted(self) -> bool:
        """Whether its file lies in its permanent place."""
        return self.promoted_at is not None

    @property
    def is_expiring(self) -> bool:
        """Whether the cleanup is removing it."""
        return self.claim == EXPIRED

    def has_expired(self, now: datetime) -> bool:
        """Say whether it is unfinished or partial, and its time is over."""
        may_expire = self.is_partial or not self.is_finished
        return self.is_expiring or (may_expire and self.expires_at is not None and self.expires_at <= now)

    @property
    def is_in_place(self) -> bool:
        """Whether its bytes came to their permanent name at once: no promotion moves them (zero copy)."""
        return self.object_name not in ("", self.key)

    @property
    def place(self) -> str:
        """The name under which the storage holds its file until promotion."""
        return self.object_name or self.key

    def get_field(self) -> Any:
        """Return the model field that it is for (Any: those live above), ``None`` when that is gone."""
        label, _, name = self.field_label.rpartition(".")
        try:
            return apps.get_model(label)._meta.get_field(name)
        except (LookupError, ValueError, FieldDoesNotExist):
            return None


class UploadState(models.Model):
    """The small, often written part of an upload: its lease, and what a cloud backend has acknowledged.

    A row appears with the first lease. Who writes the lease leaves the manifest's columns alone, and the other way
    round. Its key is the upload's id, so that no statement has to look for another one first.
    """

    upload = models.OneToOneField(
        AsyncTempFile, to_field="upload_id", on_delete=models.CASCADE, primary_key=True, related_name="state"
    )
    lease_token = models.CharField(max_length=32, null=True, blank=True, db_index=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    # "", "append" or "terminate": what somebody waits for.
    release_requested = models.CharField(max_length=16, blank=True)
    release_requested_at = models.DateTimeField(null=True, blank=True)
    # The manifest; see ``tus_server.stores.manifests``. Revision 0: nothing is stored.
    revision = models.BigIntegerField(default=0)
    part_size = models.BigIntegerField(null=True, blank=True)
    # Outlives the manifest: a multipart upload is aborted twice.
    multipart_id = models.TextField(blank=True)
    part_count = models.IntegerField(default=0)
    parts_end = models.BigIntegerField(default=0)
    # [start, size, object name, base64] of each segment.
    tail = models.JSONField(default=list, blank=True)
    is_unsettled = models.BooleanField(default=False)
    is_terminated = models.BooleanField(default=False)
    finished_etag = models.CharField(max_length=255, blank=True)
    finished_size = models.BigIntegerField(null=True, blank=True)

    class Meta:
        app_label = "async_uploads"

    def __str__(self) -> str:
        return f"{self.pk}: {'leased' if self.lease_token else 'free'}"


class UploadPart(models.Model):
    """A part or block that a cloud backend has acknowledged; append only, so that a long upload stays cheap."""

    # The constraint's index serves for this one too.
    upload = models.ForeignKey(
        AsyncTempFile, to_field="upload_id", on_delete=models.CASCADE, related_name="parts", db_index=False
    )
    number = models.IntegerField()
    # What the backend gave for it: an ETag (S3), a block id (Azure).
    etag = models.CharField(max_length=255)

    class Meta:
        app_label = "async_uploads"
        constraints = (models.UniqueConstraint(fields=("upload", "number"), name="async_uploads_part_number"),)

    def __str__(self) -> str:
        return f"{self.upload_id}: {self.number}"


def write_database() -> str:
    """Return the alias of the database that holds the journal."""
    return router.db_for_write(AsyncTempFile)


def rows() -> models.QuerySet[AsyncTempFile]:
    """Return all uploads, from the database that they are written to."""
    return AsyncTempFile._base_manager.using(write_database())


def states() -> models.QuerySet[UploadState]:
    """Return the states of all uploads, from the database that they are written to."""
    return UploadState._base_manager.using(write_database())


def state_of(upload_id: str) -> models.QuerySet[UploadState]:
    """Return the query set of one upload's state."""
    pk: Any = upload_id  # Any: the stubs expect the number of the upload, not its ``to_field``
    return states().filter(pk=pk)


@contextmanager
def translated() -> Iterator[None]:
    """Turn a database that is locked or away into "try again"."""
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        raise StoreUnavailable("The database cannot be used right now.") from error


def get_field_label(field: models.Field[Any, Any]) -> str:
    """Return ``app_label.Model.field`` of a model's field."""
    return f"{field.model._meta.label}.{field.name}"


def compute_target_digest(storage: str, name: str) -> str:
    """Return what is unique among the names that are promised and not yet taken."""
    return hashlib.sha256(f"{storage}\0{name}".encode()).hexdigest()


def find_claim(storage: str, name: str) -> AsyncTempFile | None:
    """Return the upload that was promised this permanent name and has not been moved there yet."""
    return rows().filter(target_digest=compute_target_digest(storage, name)).first()


def find_by_key(key: str) -> AsyncTempFile | None:
    """Return the upload with this key."""
    return rows().filter(key=key).first() if key else None


def find_upload(text: str) -> AsyncTempFile | None:
    """Return the upload that a client means: by its key, its id or its tus URL, which is never fetched.

    Args:
        text: Hostile.
    """
    text = text.strip()
    if not text or not is_storable(text):
        return None
    if len(text) <= KEY_LENGTH:
        found = rows().filter(models.Q(key=text) | models.Q(upload_id=text[:64])).first()
        if found is not None and text in (found.key, found.upload_id):
            return found
    upload_id = parse_tus_url(text)
    return rows().filter(upload_id=upload_id).first() if upload_id else None


def parse_tus_url(text: str) -> str | None:
    """Return the upload id of a URL of one of our own tus endpoints, ``None`` for anything else."""
    try:
        path = urlsplit(text).path
    except ValueError:
        return None
    prefix = get_script_prefix()
    if not path.startswith("/"):
        return None
    if path.startswith(prefix):
        path = "/" + path[len(prefix) :]
    try:
        match = resolve(path)
    except Resolver404:
        return None
    upload_id = match.kwargs.get("upload_id")
    is_ours = str(match.url_name or "").endswith(TUS_UPLOAD_ROUTE)
    return upload_id if is_ours and isinstance(upload_id, str) and len(upload_id) <= 64 else None
