"""What cloud backends have acknowledged, kept in the journal: one hot row per upload, and a row for each part.

``advance`` is the fence: an UPDATE of the row while it has the revision that the writer knows, in one short transaction
with its parts. Revision and lease stand in the same row and know nothing of each other.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from django.db import IntegrityError, models, transaction

from async_uploads import journal
from async_uploads.journal import AsyncTempFile, UploadPart, UploadState, translated
from tus_server.stores.manifests import Finished, Manifest, Manifests, Segment, Stale
from tus_server.uploads import UploadRecord

#: How many parts one INSERT takes; SQLite's limit of parameters is the lowest.
BATCH = 200


class ModelManifests(Manifests):
    """Manifests of uploads that have a row in the journal."""

    def load(self, record: UploadRecord) -> Manifest:
        """See ``Manifests``. No statement where the record's row was read along with its state."""
        state = record.state
        return build_manifest(state) if isinstance(state, UploadState) else self.reload(record.id)

    def reload(self, upload_id: str) -> Manifest:
        """See ``Manifests``."""
        with translated():
            state = journal.state_of(upload_id).first()
        return Manifest(upload_id) if state is None else build_manifest(state)

    def parts(self, upload_id: str) -> tuple[str, ...]:
        """See ``Manifests``."""
        with translated():
            return tuple(_parts(upload_id).order_by("number").values_list("etag", flat=True))

    def advance(self, known: Manifest, wanted: Manifest, new_parts: Sequence[str] = ()) -> Manifest:
        """See ``Manifests``. One UPDATE where there are no parts."""
        upload_id, first = known.upload_id, wanted.part_count - len(new_parts)
        advanced = replace(wanted, revision=known.revision + 1)
        if not new_parts and first >= known.part_count:
            with translated():
                _replace(known, advanced)
            return advanced
        using = journal.write_database()
        with translated(), transaction.atomic(using=using):
            # First of all: another writer waits here until this one is through, and then knows an old revision.
            _replace(known, advanced)
            if first < known.part_count:
                _parts(upload_id).filter(number__gt=first).delete()
            rows = [UploadPart(upload_id=upload_id, number=n, etag=etag) for n, etag in enumerate(new_parts, first + 1)]
            UploadPart._base_manager.using(using).bulk_create(rows, batch_size=BATCH)
        return advanced

    def delete(self, upload_id: str) -> None:
        """See ``Manifests``. The lease stays, and the id of the multipart upload, which is aborted once more."""
        empty = {**build_columns(Manifest(upload_id)), "revision": 0}
        del empty["multipart_id"]
        with translated(), transaction.atomic(using=journal.write_database()):
            journal.state_of(upload_id).update(**empty)
            _parts(upload_id).delete()


def find_manifest(row: AsyncTempFile) -> Manifest:
    """Return the manifest of a row; no statement where its state was read along."""
    state = getattr(row, "state", None)
    return Manifest(row.upload_id) if state is None else build_manifest(state)


def find_multipart_id(row: AsyncTempFile) -> str | None:
    """Return the last multipart upload of a row, also when its manifest was deleted since."""
    state = getattr(row, "state", None)
    return None if state is None else state.multipart_id or None


def _parts(upload_id: str) -> models.QuerySet[UploadPart]:
    key: Any = upload_id  # Any: as in ``journal.state_of``
    return UploadPart._base_manager.using(journal.write_database()).filter(upload_id=key)


def _replace(known: Manifest, advanced: Manifest) -> None:
    """Write a manifest over the one that the writer knows.

    Raises:
        Stale: There is another one, or no such upload any more.
    """
    columns = build_columns(advanced)
    if journal.state_of(known.upload_id).filter(revision=known.revision).update(**columns):
        return
    if known.revision == 0 and _insert(known.upload_id, columns):
        return
    raise Stale(f"The manifest of {known.upload_id} has not revision {known.revision} any more.")


def _insert(upload_id: str, columns: dict[str, Any]) -> bool:
    """Make the state of an upload that was never leased; ``False`` when it has one, or there is no such upload."""
    if not journal.rows().filter(upload_id=upload_id, state=None).exists():
        return False
    using = journal.write_database()
    try:
        with transaction.atomic(using=using):
            UploadState(upload_id=upload_id, **columns).save(using=using, force_insert=True)
    except IntegrityError:
        return False
    return True


def build_columns(manifest: Manifest) -> dict[str, Any]:
    """Return the columns of ``UploadState`` that hold a manifest."""
    finished = manifest.finished
    return {
        "revision": manifest.revision,
        "part_size": manifest.part_size,
        "multipart_id": manifest.multipart_id or "",
        "part_count": manifest.part_count,
        "parts_end": manifest.parts_end,
        "tail": [[each.start, each.size, each.name, b64encode(each.data).decode()] for each in manifest.tail],
        "is_unsettled": manifest.is_unsettled,
        "is_terminated": manifest.is_terminated,
        "finished_etag": "" if finished is None else finished.etag,
        "finished_size": None if finished is None else finished.size,
    }


def build_manifest(state: UploadState) -> Manifest:
    """Return the manifest that stands in an upload's state."""
    size = state.finished_size
    return Manifest(
        upload_id=state.upload_id,
        revision=state.revision,
        part_size=state.part_size,
        multipart_id=state.multipart_id or None,
        part_count=state.part_count,
        parts_end=state.parts_end,
        tail=tuple(Segment(start, count, name, b64decode(data)) for start, count, name, data in state.tail),
        is_unsettled=state.is_unsettled,
        is_terminated=state.is_terminated,
        finished=None if size is None else Finished(state.finished_etag, size),
    )
