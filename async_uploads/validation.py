"""From the value that a form or a serializer received to an upload that may be saved.

A value is accepted only for an upload that we issued, for this very field, unclaimed, not expired, complete, and of
this owner where the request is known. Whatever fails of these answers alike ("Invalid upload received"), so that
nobody learns whose upload it is. A record may name its own present file: unchanged.
"""

from __future__ import annotations

import datetime
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from async_uploads import intake, owners, signals, sniffing
from async_uploads.journal import AsyncTempFile, find_upload, get_field_label, rows, write_database
from async_uploads.pending import PendingUpload
from async_uploads.values import AsyncFileInputData, clean_filename
from tus_server.errors import StoreUnavailable, TooLarge, UnsupportedMediaType

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

logger = logging.getLogger("async_uploads.validation")

ERRORS: dict[str, str | _StrPromise] = {
    "invalid_upload": _("Invalid upload received"),
    "bad_input": _("Bad input for file field"),
    "incomplete": _("The upload is not finished"),
    "client_error": _("There was an unexpected error: %(error)s"),
    "invalid_image": forms.ImageField.default_error_messages["invalid_image"],
    "unavailable": _("The file could not be looked at just now. Please submit the form again."),
    "not_storable": _("This file could not be stored. Please try again with JavaScript switched on."),
}

#: How far a successful validation moves an upload's expiry ahead, at least.
GRACE = datetime.timedelta(hours=1)


def _refuse(code: str, **params: object) -> ValidationError:
    return ValidationError(ERRORS[code], code=code, params=params or None)


def is_unchanged(data: AsyncFileInputData, current: str | None, row: AsyncTempFile | None) -> bool:
    """Say whether a value names the file that its record has already, also when that was promoted in between."""
    if not current:
        return False
    if data.key == current:
        return True
    # A row whose claim was given back remembers a name that may be another file's by now.
    return row is not None and (current == row.key or (row.is_claimed and current == row.moved_to_location))


def may_use(row: AsyncTempFile, request: HttpRequest | None) -> bool:
    """Say whether an upload is of this request's client; nothing speaks against it where the request is not known."""
    return request is None or owners.may_use(row.owner, owners.identities(request))


def check(
    field: Any, data: AsyncFileInputData, *, current: str | None = None, request: HttpRequest | None = None
) -> PendingUpload | None:
    """Check a value for a field and move its upload's expiry ahead.

    Args:
        field: The model field.
        data: The parsed value.
        current: The name of the record's present file.
        request: The client's request, for the owner; ``None`` where it is not known.

    Returns:
        The upload, or ``None`` when the value names the present file: unchanged.

    Raises:
        ValidationError: It may not be used; nothing was changed.
    """
    if data.error:
        raise _refuse("client_error", error=data.error)
    if data.key and data.key == current:
        return None
    row = find_upload(data.key) if data.key else None
    if is_unchanged(data, current, row):
        return None
    if row is None or (reason := _find_objection(row, field, request)):
        logger.warning("Refused for %s: %.200r %s", field, data.key, "is unknown" if row is None else reason)
        raise _refuse("invalid_upload")
    size = complete(field, row)
    try:
        intake.check_size(field, size)
        intake.check_type(field, row.original_filename, row.media_type or None)
    except (TooLarge, UnsupportedMediaType) as error:
        raise ValidationError(error.message, code=error.code) from error
    postpone_expiry(row)
    value = AsyncFileInputData(key=row.key, name=row.original_filename, width=data.width, height=data.height)
    return PendingUpload(row, value, field.storage, size)


def _find_objection(row: AsyncTempFile, field: Any, request: HttpRequest | None) -> str:
    """Return what speaks against an upload, for the log only; empty for nothing."""
    if row.field_label != get_field_label(field) or row.storage != field.storage.identity():
        return "is for another field"
    if row.is_partial:
        return "is only a part of a file"
    if not may_use(row, request):
        return "belongs to somebody else"
    if row.is_claimed or row.is_promoted:
        return "was used already"
    return "has expired" if row.has_expired(timezone.now()) else ""


def takes_svg(field: Any) -> bool:
    """Say whether an image field wants SVG too: it asks for it, or for no look into its images."""
    wanted = {text.lower() for text in field.file_restrictions}
    return bool(getattr(field, "suppress_pillow_check", False) or wanted & {"image/svg+xml", ".svg"})


def check_image(field: Any, name: str, media_type: str) -> None:
    """Check that a file for an image field is a picture made of pixels, as far as its name and content tell.

    The name counts too: a server that serves files by their names would show a picture named ``.html`` as a page.

    Args:
        field: The model field.
        name: The file's true name.
        media_type: Its type as verified; empty where that is not known.

    Raises:
        ValidationError: It is something else.
    """
    for kind in filter(None, (media_type, sniffing.guess_type(name))):
        if not kind.startswith("image/") or (kind == "image/svg+xml" and not takes_svg(field)):
            raise _refuse("invalid_image")


def complete(field: Any, row: AsyncTempFile) -> int | None:
    """Make sure that an upload is complete, and record what a signed upload turned out to be.

    tus says itself when it is finished; a signed upload is looked at here, and never again.

    Returns:
        Its size in bytes; ``None`` where the storage cannot tell.

    Raises:
        ValidationError: It is not complete, or its storage is away and the form may be sent again.
    """
    if row.is_finished:
        return row.length
    if row.metadata:  # tus keeps its metadata; a signed upload has none
        raise _refuse("incomplete")
    try:
        found = field.storage.verify_upload(row.key, intake.size_limit(field))
        if found is None:
            raise _refuse("incomplete")
        media_type = found.media_type or read_media_type(field.storage, row.key, row.original_filename) or ""
    except FileNotFoundError as error:
        raise _refuse("incomplete") from error
    except (StoreUnavailable, OSError) as error:
        logger.error("The upload %s could not be verified", row.key, exc_info=error)
        raise _refuse("unavailable") from error
    # What the client declared of a signed upload proves nothing.
    row.length, row.media_type, row.finished_at = found.size, media_type, timezone.now()
    facts = {"length": row.length, "media_type": media_type, "finished_at": row.finished_at, "digest": found.digest}
    signals.record(signals.upload_finished, {"pk": row.pk}, Q(finished_at=None), facts)
    return row.length


def read_media_type(storage: Any, key: str, filename: str) -> str | None:
    """Return a stored file's type by its first bytes; ``None`` where the storage cannot open it.

    Raises:
        FileNotFoundError: There is no such file.
    """
    with suppress(NotImplementedError, AttributeError), storage.open(key, "rb") as file:
        return sniffing.detect(file.read(sniffing.HEAD_SIZE), filename)
    return None


def postpone_expiry(row: AsyncTempFile) -> None:
    """Move an unclaimed upload's expiry at least an hour ahead, so that it outlives the request that validated it."""
    now = timezone.now()
    expires_at = row.expires_at and max(row.expires_at, now + GRACE)
    rows().filter(pk=row.pk).update(expires_at=expires_at, last_activity=now)


def receive(field: Any, file: UploadedFile[Any], request: HttpRequest | None = None) -> PendingUpload:
    """Store a file that came in the form itself (no JavaScript) as a finished upload of its own.

    Args:
        field: The model field.
        file: What the form received; its size and type are checked here, against the content.
        request: The client's request, for the owner.

    Raises:
        ValidationError: The field does not take it, or its storage cannot store it; nothing is left behind.
    """
    try:
        name = clean_filename(file.name or "")
    except ValueError as error:
        raise _refuse("bad_input") from error
    file.seek(0)
    media_type = sniffing.detect(file.read(sniffing.HEAD_SIZE), name)
    file.seek(0)
    try:
        intake.check_size(field, file.size)
        intake.check_type(field, name, media_type)
    except (TooLarge, UnsupportedMediaType) as error:
        raise ValidationError(error.message, code=error.code) from error
    owner = owners.owner_for_creation(request) if request is not None else ""
    row = AsyncTempFile.create_for_field(field, name, owner=owner, length=file.size, media_type=media_type)
    try:
        stored = field.storage.save(row.key, file)
    except (NotImplementedError, AttributeError) as error:
        row.delete()
        raise _refuse("not_storable") from error
    except BaseException:
        row.delete()
        raise
    row.key = row.object_name = stored
    row.finished_at = row.last_activity = timezone.now()
    with transaction.atomic(using=write_database()):
        row.save()
        signals.send(signals.upload_finished, row)
    return PendingUpload(row, AsyncFileInputData(key=row.key, name=row.original_filename), field.storage)
