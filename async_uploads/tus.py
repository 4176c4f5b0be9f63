"""The bridge to ``tus_server``: one endpoint per registry, whose uploads are rows of the journal.

A request reads its row once; which storage keeps the bytes follows from it. The engine knows no fields, the stores know
no HTTP: what a field allows is decided in the hooks here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from django.conf import settings
from django.contrib.sessions.backends.base import UpdateError
from django.db import OperationalError
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _

from async_uploads import conf, intake, owners, sniffing
from async_uploads.intake import Admission, InvalidParameter
from async_uploads.journal import AsyncTempFile, get_field_label, rows, translated, write_database
from async_uploads.journal_store import JournalRecords, RegistryStore
from async_uploads.leases import DatabaseLocker
from async_uploads.registry import AsyncFieldRegistry
from async_uploads.statements import Update, slot
from tus_server.config import TusConfig
from tus_server.engine import Engine, utc_now
from tus_server.errors import BadRequest, Forbidden, InvalidMetadata, StoreUnavailable, UploadNotFound
from tus_server.headers import build_metadata, parse_metadata
from tus_server.hooks import Hooks
from tus_server.locks.base import Locker
from tus_server.messages import Request
from tus_server.serving import Serving, no_context
from tus_server.stores.base import Concatenates
from tus_server.uploads import Upload, UploadRecord, generate_upload_id
from tus_server.wsgi import TusView

_SET_TYPE = Update(
    lambda: rows().filter(upload_id=slot(AsyncTempFile, "upload_id")), media_type=slot(AsyncTempFile, "media_type")
)


class FieldHooks(Hooks):
    """What the fields of a registry allow, and whose uploads they are."""

    def __init__(self, registry: AsyncFieldRegistry) -> None:
        self.registry = registry

    def pre_create(self, request: Request, record: UploadRecord) -> UploadRecord:
        """Decide by ``field_id``, ``filename``, ``filetype`` and ``instance_id`` of the metadata."""
        metadata = {name: _decode(name, value) for name, value in parse_metadata(record.metadata).items()
                    if name in ("field_id", "filename", "filetype", "instance_id")}  # fmt: skip
        admission = intake.admit(
            request.origin,
            self.registry,
            field_id=metadata.get("field_id"),
            filename=metadata.get("filename"),
            content_type=metadata.get("filetype"),
            size=record.length,
            instance_id=metadata.get("instance_id") or None,
            is_partial=record.is_partial,
        )
        require_same_field(record, admission)
        save_session(request.origin)
        return complete_record(record, admission)

    def pre_access(self, request: Request, upload: Upload) -> None:
        """Know only this client's uploads."""
        owner = str(upload.record.facts["owner"])
        # Without an owner neither session nor user is read.
        if owner and not owners.may_use(owner, owners.identities(request.origin)):
            raise UploadNotFound

    def pre_terminate(self, request: Request, upload: Upload) -> None:
        """Keep what a record owns; the store asks once more, atomically."""
        if upload.record.facts["is_owned"]:
            raise Forbidden(_("The file is in use."), code="in_use")

    def pre_finish(self, upload: Upload) -> None:
        """Verify the file's type by its content, and record it."""
        facts = upload.record.facts
        field = JournalRecords(self.registry).find_field(str(facts["field_label"]))
        if field is None:
            raise UploadNotFound
        filename = str(facts["filename"])
        intake.check_size(field, upload.offset)
        head = RegistryStore(self.registry).read(upload, 0, sniffing.HEAD_SIZE)
        media_type = sniffing.detect(head, filename)
        intake.check_type(field, filename, media_type)
        if media_type != facts["media_type"]:
            with translated():
                _SET_TYPE.run(write_database(), upload_id=upload.id, media_type=media_type)

    def response_headers(self, upload: Upload) -> Mapping[str, str]:
        """Tell the key, for the form."""
        key = str(upload.record.facts.get("key", ""))
        return {"Async-Upload-Key": key} if key.isascii() and key.isprintable() else {}


def _decode(name: str, value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise InvalidMetadata(f"The value of {name} must be UTF-8.") from error
    return text


def complete_record(record: UploadRecord, admission: Admission) -> UploadRecord:
    """Add to a new record what was decided about it.

    Raises:
        InvalidParameter: The field takes no tus uploads.
        BadRequest: It takes no parts of files.
    """
    field = admission.field
    store = field.storage.upload_store(None)
    if store is None:
        raise InvalidParameter("field_id", _("This field uploads by signed URLs only."), code="no_tus")
    if (record.is_partial or record.is_final) and not isinstance(store, Concatenates):
        raise BadRequest(_("This field's storage cannot make one file of several."), code="unsupported_extension")
    facts = {
        "field_label": get_field_label(field),
        "filename": admission.filename,
        "owner": admission.owner,
        "media_type": admission.media_type,
    }
    return replace(record, max_size=intake.size_limit(field), facts=facts)


def require_same_field(record: UploadRecord, admission: Admission) -> None:
    """Check that a new upload is for the field of the partial uploads that it is made of.

    Raises:
        BadRequest: It is for another one.
    """
    if not record.is_final:
        return
    with translated():
        others = rows().filter(upload_id__in=record.partials).exclude(field_label=get_field_label(admission.field))
        if others.exists():
            raise BadRequest(_("The partial uploads are for another field."), code="other_field")


def save_session(request: HttpRequest) -> None:
    """Save the session now if it was changed, and not again after the body: that would undo what other tabs changed.

    Raises:
        BadRequest: The session has ended meanwhile.
        StoreUnavailable: The database cannot be used right now.
    """
    session = getattr(request, "session", None)
    if session is None or not session.modified:
        return
    try:
        session.save()
    except UpdateError as error:
        if isinstance(error.__context__, OperationalError):  # Django says the same of a database that is locked or away
            raise StoreUnavailable("The session cannot be saved right now.") from error
        raise BadRequest(_("Your session has ended. Reload the page."), code="session_ended") from error
    session.modified = False


def create_upload(
    registry: AsyncFieldRegistry, admission: Admission, length: int | None, instance_id: str = ""
) -> Upload:
    """Create an upload for a client that asked at ``generate-upload-url/`` instead of by tus.

    Args:
        registry: The field's registry.
        admission: What ``intake.admit`` decided.
        length: Its size in bytes; ``None`` when it is deferred.
        instance_id: The record that it is for, for the metadata.
    """
    now = utc_now()
    metadata = {
        "field_id": admission.field_id,
        "filename": admission.filename,
        "filetype": admission.media_type,
        "instance_id": instance_id,
    }
    record = UploadRecord(
        id=generate_upload_id(),
        object_name="",
        length=length,
        metadata=build_metadata({name: value for name, value in metadata.items() if value}),
        created_at=now,
        expires_at=now + conf.get_duration("UPLOAD_LIFETIME"),
    )
    return RegistryStore(registry).create(complete_record(record, admission))


class SettingsConfig(TusConfig):
    """The engine's limits as the settings have them at this moment."""

    def __init__(self) -> None:
        super().__init__()

    def __getattribute__(self, name: str) -> Any:  # Any: each attribute has its own type
        match name:
            case "lifetime":
                return conf.get_duration("UPLOAD_LIFETIME")
            case "idle_timeout":
                return conf.get_duration("IDLE_TIMEOUT").total_seconds()
            case "fast_path":
                return conf.get("FAST_PATH")
            case "uvicorn_handover":
                return conf.get("UVICORN_HANDOVER")
        return super().__getattribute__(name)


def get_serving() -> Serving:
    """Return what the settings say about the shells at this moment."""
    return Serving(
        upload_paths=conf.get("UPLOAD_PATHS"),
        upload_middleware=conf.get("UPLOAD_MIDDLEWARE"),
        database_context=conf.get_callable("DATABASE_CONTEXT") or no_context,
    )


#: Shared by all registries of this process: upload ids are unique among them.
_locker: Locker = DatabaseLocker()


class RegistryTusView(TusView):
    """A registry's tus endpoint."""

    def __call__(self, request: HttpRequest, upload_id: str | None = None) -> HttpResponseBase:
        """Serve a request; see ``TusView``."""
        response = super().__call__(request, upload_id)
        session = getattr(request, "session", None)
        if settings.SESSION_SAVE_EVERY_REQUEST and session is not None:
            # The middleware will save what it has; let it be what is stored by then, not what was read before the body.
            session.__dict__.pop("_session_cache", None)
        return response


def get_tus_view(registry: AsyncFieldRegistry) -> Callable[..., HttpResponseBase]:
    """Return the view of a registry's tus endpoint, for creation and for uploads alike."""
    return RegistryTusView(Engine(RegistryStore(registry), _locker, FieldHooks(registry), SettingsConfig()))
