"""The uploads of ``tus_server`` as rows of the journal, with their bytes in the storages of their fields.

A request reads its row once; which storage keeps the bytes follows from it. All statements stand alone: no transaction
outlives a call.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.db import InterfaceError, OperationalError
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from async_uploads import intake, signals
from async_uploads.journal import (
    EXPIRED,
    AsyncTempFile,
    UploadState,
    get_field_label,
    rows,
    states,
    translated,
    write_database,
)
from async_uploads.records import build_record, read_state, to_row
from async_uploads.registry import AsyncFieldRegistry
from async_uploads.statements import Insert, Select, Update, slot
from tus_server.errors import BadRequest, Forbidden, StoreUnavailable, TusError, UploadGone, UploadNotFound
from tus_server.stores.base import Concatenates, DefersLength, Expires, Records, Sink, Terminates, UploadStore
from tus_server.uploads import Upload, UploadRecord

logger = logging.getLogger("async_uploads.journal_store")

UNCLAIMED = Q(claim=None) | Q(claim=EXPIRED)
#: What can still be finished: neither done already, nor being removed.
_UNFINISHED = Q(finished_at=None) & ~Q(claim=EXPIRED)


def _this() -> QuerySet[AsyncTempFile]:
    return rows().filter(upload_id=slot(AsyncTempFile, "upload_id"))


_CREATE = Insert(AsyncTempFile)
_LAST_ACTIVITY = slot(AsyncTempFile, "last_activity")
_READ = Select(lambda: _this().select_related("state"))
_TOUCH = Update(_this, last_activity=_LAST_ACTIVITY, expires_at=slot(AsyncTempFile, "expires_at"))
_FINISH = Update(
    lambda: _this().filter(_UNFINISHED),
    finished_at=slot(AsyncTempFile, "finished_at"),
    last_activity=_LAST_ACTIVITY,
)


class JournalRecords(Records):
    """The facts of uploads, kept in the journal. All statements stand alone: no transaction outlives a method.

    Args:
        registry: Rows of fields that are not in it do not exist here.
    """

    def __init__(self, registry: AsyncFieldRegistry) -> None:
        self.registry = registry

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JournalRecords) and other.registry is self.registry

    def __hash__(self) -> int:
        return hash(id(self.registry))

    # Any: the model fields are known by what they carry, not by their class.
    def find_field(self, label: str) -> Any:
        """Return the field of this registry with a label; ``None`` when it has none."""
        fields = self.registry.fields_by_id
        usual = fields.get(label)  # under its label, unless the registry gives other ids
        if usual is not None and get_field_label(usual) == label:
            return usual
        return next((field for field in fields.values() if get_field_label(field) == label), None)

    def create(self, record: UploadRecord) -> None:
        """See ``Records``. The row exists: ``RegistryStore.create`` needs its key to know where the bytes go."""

    def get(self, upload_id: str) -> UploadRecord:
        """See ``Records``."""
        with translated():
            row = _READ.first(write_database(), upload_id=upload_id)
        field = None if row is None else self.find_field(row.field_label)
        if row is None or field is None:
            raise UploadNotFound
        if row.is_expiring:
            raise UploadGone
        return build_record(row, intake.size_limit(field), read_state(row))

    def set_length(self, upload_id: str, length: int) -> UploadRecord:
        """See ``Records``."""
        with translated():
            rows().filter(upload_id=upload_id, length=None).update(length=length)
        record = self.get(upload_id)
        if record.length != length:
            raise BadRequest(f"The upload's length is {record.length} already.", code="length_fixed")
        return record

    def set_finished(self, record: UploadRecord, at: datetime.datetime) -> UploadRecord:
        """See ``Records``. One statement where nobody listens, and nobody else has finished it before.

        Raises:
            UploadGone: The cleanup is removing it; nothing was changed.
        """
        with translated():
            moment = to_row(at)
            if signals.upload_finished.receivers:
                is_first = self._tell_finished(record.id, {"finished_at": moment, "last_activity": moment})
            else:
                values = {"upload_id": record.id, "finished_at": moment, "last_activity": moment}
                is_first = bool(_FINISH.run(write_database(), **values))
        return replace(record, finished_at=at) if is_first else self.get(record.id)

    @staticmethod
    def _tell_finished(upload_id: str, columns: Mapping[str, Any]) -> bool:
        try:
            return signals.record(signals.upload_finished, {"upload_id": upload_id}, _UNFINISHED, columns)
        except (OperationalError, InterfaceError, TusError):
            raise
        except Exception as error:  # the next request that meets the upload finishes it
            logger.exception("A receiver of upload_finished failed for the upload %s", upload_id)
            raise StoreUnavailable("The upload could not be recorded as finished.") from error

    def touch(self, upload_id: str, now: datetime.datetime, expires_at: datetime.datetime | None) -> None:
        """See ``Records``."""
        with translated():
            values = {"last_activity": to_row(now), "expires_at": to_row(expires_at)}
            _TOUCH.run(write_database(), upload_id=upload_id, **values)

    def delete(self, upload_id: str) -> None:
        """See ``Records``. A row that a record has claimed stays.

        One with a multipart upload stays until the cleanup has aborted that once more: parts that were under way when
        it was aborted may have come after it.
        """
        with translated():
            found = rows().filter(UNCLAIMED, upload_id=upload_id)
            has_multipart = Exists(states().filter(upload=OuterRef("upload_id")).exclude(multipart_id=""))
            if not found.filter(has_multipart).update(claim=EXPIRED, discarded_at=timezone.now()):
                found.delete()

    def expired(self, now: datetime.datetime, limit: int) -> list[UploadRecord]:
        """See ``Records``."""
        with translated():
            may_expire = Q(finished_at=None) | Q(is_partial=True)
            found = rows().filter(may_expire, claim=None, expires_at__lte=to_row(now)).exclude(metadata="")
            expired = found.select_related("state").order_by("expires_at")[:limit]
            return [build_record(row, state=read_state(row)) for row in expired]


class RegistryStore(UploadStore, Terminates, DefersLength, Expires, Concatenates):
    """All storages of a registry's fields as one store; each upload goes to its own field's."""

    records: JournalRecords

    def __init__(self, registry: AsyncFieldRegistry) -> None:
        self.registry = registry
        self.records = JournalRecords(registry)

    def _substore(self, record: UploadRecord) -> UploadStore:
        """Return where a record's bytes are kept.

        Raises:
            UploadNotFound: Its field is gone, or takes no tus uploads.
        """
        field = self.records.find_field(str(record.facts.get("field_label", "")))
        store = None if field is None else find_store(field, self.records)
        if store is None:
            raise UploadNotFound
        return store

    def create(self, record: UploadRecord) -> Upload:
        """See ``UploadStore``. The row is written first, so that no bytes exist that no row names."""
        facts = record.facts
        field, filename = self.records.find_field(str(facts["field_label"])), str(facts["filename"])
        with translated():
            row = AsyncTempFile.build_for_field(
                field,
                filename,
                owner=facts["owner"],
                length=record.length,
                metadata=record.metadata,
                is_partial=record.is_partial,
                partials=list(record.partials),
                concat="" if record.is_partial else record.concat,
                media_type=facts["media_type"],
                upload_id=record.id,
                created_at=to_row(record.created_at),
                expires_at=to_row(record.expires_at),
            )
            if not record.is_partial:  # of which no record ever takes the name
                row.object_name = field.storage.choose_object_name(field, filename, row.key)
            _CREATE.run(write_database(), row)
        complete = build_record(row, record.max_size, UploadState(upload=row))
        return self._substore(complete).create(complete)

    def load(self, record: UploadRecord) -> Upload:
        """See ``UploadStore``."""
        return self._substore(record).load(record)

    def open_sink(self, upload: Upload, offset: int, expected: int | None = None) -> Sink:
        """See ``UploadStore``."""
        return self._substore(upload.record).open_sink(upload, offset, expected)

    def sync(self, upload: Upload) -> None:
        """See ``UploadStore``."""
        self._substore(upload.record).sync(upload)

    def read(self, upload: Upload, start: int, count: int) -> bytes:
        """See ``UploadStore``."""
        return self._substore(upload.record).read(upload, start, count)

    def scratch_directory(self, record: UploadRecord) -> Path | None:
        """See ``UploadStore``."""
        return self._substore(record).scratch_directory(record)

    def finish(self, upload: Upload, now: datetime.datetime) -> Upload:
        """See ``UploadStore``."""
        return self._substore(upload.record).finish(upload, now)

    def terminate(self, upload: Upload) -> None:
        """See ``Terminates``. From the first step on no record can claim the upload any more.

        Raises:
            Forbidden: A record has claimed it; nothing was changed.
        """
        if not claim_for_removal(upload.id):
            raise Forbidden(_("The file is in use."), code="in_use")
        store = self._substore(upload.record)
        if isinstance(store, Terminates):
            store.terminate(upload)

    def declare_length(self, upload: Upload, length: int) -> Upload:
        """See ``DefersLength``."""
        store = self._substore(upload.record)
        if not isinstance(store, DefersLength):
            raise BadRequest("This upload's length cannot be deferred.", code="unsupported_extension")
        return store.declare_length(upload, length)

    def touch(self, upload: Upload, now: datetime.datetime, expires_at: datetime.datetime | None) -> Upload:
        """See ``Expires``."""
        store = self._substore(upload.record)
        return store.touch(upload, now, expires_at) if isinstance(store, Expires) else upload

    def expired(self, now: datetime.datetime, limit: int) -> list[Upload]:
        """See ``Expires``."""
        return [Upload(record, 0) for record in self.records.expired(now, limit)]

    def concatenate(self, final: Upload, partials: Sequence[Upload]) -> Upload:
        """See ``Concatenates``. All of them are of one field (``FieldHooks.pre_create``), so of one storage."""
        store = self._substore(final.record)
        if not isinstance(store, Concatenates):
            raise BadRequest("This upload cannot be made of others.", code="unsupported_extension")
        return store.concatenate(final, partials)


def claim_for_removal(upload_id: str) -> bool:
    """Take an upload out of every record's reach; ``False`` when a record has it. May be repeated."""
    with translated():
        if rows().filter(UNCLAIMED, upload_id=upload_id).update(claim=EXPIRED):
            return True
        return not rows().filter(upload_id=upload_id).exists()


def find_store(field: Any, records: Records) -> UploadStore | None:
    """Return the store for a field's tus uploads; ``None`` where its storage takes none."""
    store: UploadStore | None = field.storage.upload_store(records)
    return store
