"""The views besides tus: where an upload goes, where a file is read, and both for files on this server.

What the field does not allow is refused. Errors about a parameter are 400 with ``{"fieldId": ["..."]}``: camel case,
lists; other errors are ``{"error": "...", "code": "..."}`` with their status.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.http import Http404, HttpRequest, HttpResponseRedirect, JsonResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import add_never_cache_headers
from django.utils.translation import gettext as _

from async_uploads import conf, csrf, intake, owners, permissions, tus
from async_uploads.direct import DirectDownloadView, DirectUploadView
from async_uploads.intake import Admission, InvalidParameter
from async_uploads.journal import AsyncTempFile
from async_uploads.view_base import RegistryView, read_parameters
from tus_server.errors import BadRequest, Forbidden

__all__ = ["DirectDownloadView", "DirectUploadView", "DownloadRedirectView", "GenerateUploadUrlView"]


class GenerateUploadUrlView(RegistryView):
    """Creates an upload and says where its bytes go: ``{"key", "expires", "uploadUrl": {...}}``.

    POST takes JSON ``{field_id, filename, size, content_type?, instance_id?, transport?}``; GET takes the reference's
    parameters and always answers with the storage's signed transport. Exempt from Django's CSRF middleware, because
    clients without cookies have no token; requests with cookies are checked by ``csrf``.
    """

    def get(self, request: HttpRequest) -> HttpResponseBase:
        """Answer the reference's request, unless ``GENERATE_URL_BY_GET`` is off."""
        if not conf.get("GENERATE_URL_BY_GET"):
            return self.http_method_not_allowed(request)
        # A link or an image on a foreign page sends no token, and no Origin either: only what the browser says counts.
        is_foreign = request.headers.get("Sec-Fetch-Site") == "cross-site" and not csrf.is_same_site(request)
        owners.authenticate(request)  # a project's own way may go by a cookie too
        if is_foreign and csrf.is_by_cookie(request):
            raise Forbidden(_("The request did not come from this site."), code="csrf_failed")
        parameters = read_parameters(request.GET)
        admission = self.admit(request, parameters, is_checked=True)
        return JsonResponse(self.sign(admission, self.read_params(parameters.get("params")), None))

    def post(self, request: HttpRequest) -> HttpResponseBase:
        """Create an upload by JSON; by tus where the storage does, unless ``transport`` says otherwise."""
        parameters = self.read_body(request)
        size = self.read_size(parameters.get("size"))
        field = self.get_field(parameters)
        transport = parameters.get("transport") or field.storage.transport
        if transport not in ("tus", "signed"):
            raise InvalidParameter("transport", _("Must be tus or signed."))
        admission = self.admit(request, parameters, size)
        if transport == "signed":
            return JsonResponse(self.sign(admission, self.read_params(parameters.get("params")), size), status=201)
        upload = tus.create_upload(self.registry, admission, size, str(parameters.get("instance_id") or ""))
        expires_at = upload.record.expires_at
        return JsonResponse(
            {
                "key": upload.record.facts["key"],
                "expires": expires_at and expires_at.isoformat(),
                "uploadUrl": {
                    "provider": "tus",
                    "url": reverse(self.registry.tus_upload_url_name, kwargs={"upload_id": upload.id}),
                    "method": "PATCH",
                    "headers": {"Tus-Resumable": "1.0.0"},
                    "fields": {},
                },
            },
            status=201,
        )

    def read_body(self, request: HttpRequest) -> dict[str, Any]:
        """Return the parameters of a JSON body.

        Raises:
            BadRequest: It is no JSON object; 415 when it does not say that it is one.
        """
        if request.content_type != "application/json":
            raise InvalidContentType
        try:
            parsed = json.loads(request.body)
        except (ValueError, RecursionError) as error:
            raise BadRequest(_("The body must be JSON."), code="invalid_json") from error
        except RequestDataTooBig as error:
            raise BadRequest(_("The body is too large."), code="invalid_json") from error
        if not isinstance(parsed, dict):
            raise BadRequest(_("The body must be a JSON object."), code="invalid_json")
        return read_parameters(parsed)

    @staticmethod
    def read_size(size: object) -> int | None:
        """Return the declared size in bytes; ``None`` when it is not known yet."""
        if size is None:
            return None
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 2**63:
            raise InvalidParameter("size", _("Must be a number of bytes."))
        return size

    @staticmethod
    def read_params(params: object) -> dict[str, Any]:
        """Return the reference's ``params``: further form fields for the storage, as JSON."""
        if params in (None, ""):
            return {}
        try:
            parsed = json.loads(params) if isinstance(params, str) else params
        except (ValueError, RecursionError) as error:
            raise InvalidParameter("params", _("Invalid JSON")) from error
        if not isinstance(parsed, dict):
            raise InvalidParameter("params", _("Invalid JSON"))
        return parsed

    def admit(
        self, request: HttpRequest, parameters: Mapping[str, Any], size: int | None = None, *, is_checked: bool = False
    ) -> Admission:
        """Decide whether the upload may begin; see ``intake.admit``."""
        texts: dict[str, str | None] = {}
        for name in ("field_id", "filename", "content_type"):
            value = parameters.get(name)
            if value is not None and not isinstance(value, str):
                raise InvalidParameter(name, _("Must be a text."))
            texts[name] = value
        instance_id = parameters.get("instance_id")
        if instance_id is not None and (isinstance(instance_id, bool) or not isinstance(instance_id, str | int)):
            raise InvalidParameter("instance_id", _("Must be a text or a number."))
        return intake.admit(
            request,
            self.registry,
            field_id=texts["field_id"],
            filename=texts["filename"],
            content_type=texts["content_type"],
            size=size,
            instance_id=instance_id,
            is_same_site=is_checked,
        )

    def sign(self, admission: Admission, params: dict[str, Any], size: int | None) -> dict[str, Any]:
        """Create a row for a signed upload and ask its storage where the bytes go."""
        field = admission.field
        row = AsyncTempFile.create_for_field(
            field, admission.filename, owner=admission.owner, length=size, media_type=admission.media_type
        )
        fields = {**params, "Content-Type": admission.media_type} if admission.media_type else params
        conditions: list[list[Any]] = [["starts-with", "$Content-Type", ""]]
        limit = intake.size_limit(field)
        if size is not None:
            conditions.insert(0, ["content-length-range", size, size])
        elif limit is not None:
            conditions.insert(0, ["content-length-range", 0, limit])
        answer = field.storage.generate_upload_url(
            row.key, admission.field_id, fields=fields or None, conditions=conditions
        )
        expires_at = timezone.now() + datetime.timedelta(seconds=conf.get("UPLOAD_URL_EXPIRY"))
        upload_url = {"url": answer, "fields": {}} if isinstance(answer, str) else answer
        return {"key": row.key, "expires": expires_at.isoformat(), "uploadUrl": upload_url}


class InvalidContentType(BadRequest):
    """The body of a POST is not declared as JSON; forms of foreign pages cannot declare that."""

    status = 415
    code = "unsupported_media_type"
    message = "The Content-Type must be application/json."


class DownloadRedirectView(RegistryView):
    """Checks ``perm_detail`` and redirects to where the storage serves the file, also before its promotion."""

    def get(self, request: HttpRequest) -> HttpResponseBase:
        """Answer 302, 403 or 404.

        Raises:
            PermissionDenied: The user may not see the record; a record that does not exist looks the same to them.
            Http404: There is no such record, or it has no file.
        """
        parameters = read_parameters(request.GET)
        field = self.get_field(parameters)
        record = intake.find_record(field, parameters.get("instance_id"))
        if not permissions.has_permission(owners.authenticate(request), field.perm_detail, record):
            raise PermissionDenied
        if record is None:
            raise Http404("No such record")
        file = getattr(record, field.name)
        if not file:
            raise Http404(f"No value set for {field.name}")
        field_id = self.registry.generate_id(field)
        name = getattr(file, "stored_name", file.name)
        response = HttpResponseRedirect(field.storage.generate_download_url(name, field_id, **field.download_params))
        add_never_cache_headers(response)
        return response
