"""Whether an upload may begin: field, file name, permission, limits, owner.

tus, ``generate-upload-url/`` by POST and the same by GET all come through ``admit``. It refuses by errors of the tus
tree; those about one parameter are ``InvalidParameter``, which the views answer in the reference's shape.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.db import DataError, models
from django.http import HttpRequest
from django.utils.translation import gettext as _

from async_uploads import csrf, owners, permissions, sniffing, values
from tus_server.errors import BadRequest, Forbidden, TooLarge, UnsupportedMediaType, UploadNotFound

if TYPE_CHECKING:
    from async_uploads.registry import AsyncFieldRegistry

MIB = 1024 * 1024

#: The name of a part of a file that came without one.
PART_NAME = "part"

_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]{1,120}/[\w!#$&^.+-]{1,120}", re.ASCII)


class InvalidParameter(BadRequest):
    """One parameter of a request is missing or refused.

    Args:
        parameter: Its name, in snake case.
        message: What is wrong with it.
    """

    code = "invalid_parameter"

    def __init__(self, parameter: str, message: str, *, code: str | None = None) -> None:
        self.parameter = parameter
        super().__init__(message, code=code)


@dataclass(frozen=True)
class Admission:
    """What was decided about an upload before it exists.

    Attributes:
        field: The model field that it is for.
        field_id: The field's id in its registry.
        filename: The cleaned true name.
        media_type: The type that the name promises, else the one the client declared; a hint.
        owner: Who owns it, as ``owners`` writes it; empty where the upload's URL is the only proof.
    """

    # Any: the model fields live above this module.
    field: Any
    field_id: str
    filename: str
    media_type: str
    owner: str


def size_limit(field: Any) -> int | None:
    """Return a field's limit in bytes, ``None`` for none."""
    return None if field.max_size is None else int(field.max_size * MIB)


def check_size(field: Any, size: int | None) -> None:
    """Check a size in bytes against a field's limit.

    Raises:
        TooLarge: It exceeds the limit, which the message names.
    """
    limit = size_limit(field)
    if limit is not None and size is not None and size > limit:
        raise TooLarge(
            limit, _("The file is too large. At most %(limit)g MiB are accepted.") % {"limit": field.max_size}
        )


def check_type(field: Any, filename: str, media_type: str | None) -> None:
    """Check a file's name, and its verified type where there is one, against a field's restrictions.

    Raises:
        UnsupportedMediaType: The field does not take such files.
    """
    if not sniffing.is_allowed(field.file_restrictions, filename, media_type):
        allowed = ", ".join(field.file_restrictions)
        message = _("This type of file is not accepted. Accepted are: %(allowed)s.") % {"allowed": allowed}
        raise UnsupportedMediaType(message, code="type_not_allowed")


def find_record(field: Any, instance_id: object) -> models.Model | None:
    """Return the record with this primary key, ``None`` when there is none or the key cannot be one."""
    try:
        record: models.Model = field.model._default_manager.get(pk=instance_id)
    except (ObjectDoesNotExist, ValueError, TypeError, OverflowError, ValidationError, DataError):
        return None
    return record


def check_permission(request: HttpRequest, field: Any, instance_id: object | None) -> None:
    """Check that this client may upload: for a record ``perm_update``, else ``perm_create``.

    Raises:
        Forbidden: It may not. A record that does not exist looks the same to whoever may not change all of them.
        UploadNotFound: The record does not exist.
    """
    user = owners.authenticate(request)
    if instance_id in (None, ""):
        permission, record = field.perm_create, None
    else:
        permission, record = field.perm_update, find_record(field, instance_id)
    if not permissions.has_permission(user, permission, record):
        raise Forbidden(_("You are not allowed to upload a file here."))
    if record is None and instance_id not in (None, ""):
        raise UploadNotFound(_("The record that the file is for does not exist."), code="record_not_found")


def admit(
    request: HttpRequest,
    registry: AsyncFieldRegistry,
    *,
    field_id: str | None,
    filename: str | None,
    content_type: str | None = None,
    size: int | None = None,
    instance_id: object | None = None,
    is_same_site: bool = False,
    is_partial: bool = False,
) -> Admission:
    """Decide whether an upload may begin; nothing is stored but, where needed, the owner's token in the session's data.

    Args:
        request: The client's request; its body is not touched.
        registry: Where ``field_id`` is looked up.
        field_id: The field's id.
        filename: The file's name, as the client says.
        content_type: The type, as the client says.
        size: Its size in bytes; ``None`` when it is not known yet.
        instance_id: Primary key of the record that the file is for; ``None`` for a new one.
        is_same_site: The caller has checked already that no foreign page sent this.
        is_partial: It is only a part of a file: its name and type say nothing yet.

    Raises:
        InvalidParameter: A parameter is missing or malformed.
        Forbidden: Missing permission, or a foreign page sent this in the user's name.
        UploadNotFound: There is no such record.
        TooLarge, UnsupportedMediaType: The field does not take such a file.
    """
    owners.authenticate(request)  # a project's own way may go by a cookie too
    if not is_same_site and csrf.is_foreign(request):
        raise Forbidden(
            _("The request did not come from this site. Reload the page and try again."), code="csrf_failed"
        )
    if not field_id and is_partial:
        message = _("A partial upload needs it in its metadata too (in tus-js-client: metadataForPartialUploads).")
        raise InvalidParameter("field_id", message, code="field_id_missing")
    if not field_id:
        raise InvalidParameter("field_id", _("This field is required."), code="field_id_missing")
    field = registry.fields_by_id.get(field_id)
    if field is None:
        raise InvalidParameter("field_id", _("Unknown fieldId"), code="unknown_field")
    if is_partial:
        filename = filename or PART_NAME
    if not filename:
        raise InvalidParameter("filename", _("This field is required."), code="filename_missing")
    try:
        name = values.clean_filename(filename)
    except ValueError as error:
        raise InvalidParameter("filename", str(error), code="invalid_filename") from error
    check_permission(request, field, instance_id)
    check_size(field, size)
    if not is_partial:
        check_type(field, name, None)
    media_type = sniffing.guess_type(name) or sniffing.normalise(content_type or "")
    if not _MEDIA_TYPE.fullmatch(media_type):
        media_type = ""
    return Admission(field, field_id, name, media_type, owners.owner_for_creation(request))
