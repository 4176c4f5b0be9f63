"""What our views share: a registry, parameters however they are written, and refusals in the reference's shape."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _
from django.views import View

from async_uploads.intake import InvalidParameter
from async_uploads.registry import AsyncFieldRegistry, default_async_field_registry
from tus_server.errors import TooLarge, TusError, UnsupportedMediaType
from tus_server.wsgi import EveryAlias

#: Parameters that the reference's front ends know under other names.
_ALIASES = {"async_field_id": "field_id"}


def camelize(name: str) -> str:
    """Return ``field_id`` as ``fieldId``."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def read_parameters(source: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request's parameters in snake case, whichever way they are written."""
    parameters: dict[str, Any] = {}
    for name in source:
        snake = re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", str(name)).lower()
        parameters[_ALIASES.get(snake, snake)] = source[name]
    return parameters


def build_error(error: TusError) -> JsonResponse:
    """Build the answer to a refusal."""
    parameter = ""
    match error:
        case InvalidParameter():
            parameter = error.parameter
        case TooLarge():
            parameter = "size"
        case UnsupportedMediaType():
            parameter = "filename"
    if parameter:
        return JsonResponse({camelize(parameter): [error.message]}, status=400)
    answer = JsonResponse({"error": error.message, "code": error.code}, status=error.status)
    for name, value in error.headers.items():
        answer[name] = value
    return answer


class RegistryView(View):
    """A view of one registry, open to everybody as far as the field's permissions say."""

    registry: AsyncFieldRegistry = default_async_field_registry

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        """Return the view: without Django's CSRF middleware (``csrf`` checks where there is something to check),
        without ``LoginRequiredMiddleware`` and without a transaction around a body that may take long to come.
        """
        view: Any = super().as_view(**initkwargs)
        view.csrf_exempt = True
        view.login_required = False
        view._non_atomic_requests = EveryAlias()
        return view

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Serve a request; what is refused becomes an answer here."""
        try:
            return super().dispatch(request, *args, **kwargs)
        except TusError as error:
            return build_error(error)

    def get_field(self, parameters: Mapping[str, Any]) -> Any:
        """Return the field that the parameters name.

        Raises:
            InvalidParameter: They name none.
        """
        field_id = parameters.get("field_id")
        if not field_id:
            raise InvalidParameter("field_id", _("This field is required."))
        field = self.registry.fields_by_id.get(field_id) if isinstance(field_id, str) else None
        if field is None:
            raise InvalidParameter("field_id", _("Unknown fieldId"))
        return field
