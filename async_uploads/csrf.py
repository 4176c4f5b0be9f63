"""Whether a request that creates an upload came from our own pages.

Our upload views are exempt from Django's CSRF middleware, because it reads the body. Creation by cookie needs one of:
``Sec-Fetch-Site: same-origin``, an ``Origin`` that is ours or trusted, or the CSRF token in its header. Requests that
carry no cookie of ours prove who they are by themselves and need none of them.
"""

from __future__ import annotations

import copy

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.middleware.csrf import CsrfViewMiddleware, RejectRequest


def _no_response(request: HttpRequest) -> HttpResponseBase:
    raise NotImplementedError("The middleware is only asked for its checks.")


class _Checks(CsrfViewMiddleware):
    """Django's checks of origin and token, one by one; the private names are the same from Django 4.0 to 6.1."""

    def has_trusted_origin(self, request: HttpRequest) -> bool:
        """Say whether ``Origin`` is there and is this host's or one of ``CSRF_TRUSTED_ORIGINS``."""
        return "HTTP_ORIGIN" in request.META and bool(self._origin_verified(request))  # type: ignore[attr-defined]  # not in the stubs

    def has_token(self, request: HttpRequest) -> bool:
        """Say whether the token's header matches the cookie's or the session's secret. The body is not read."""
        probe = copy.copy(request)
        probe.method = "PUT"  # Of a POST Django would read the body.
        try:
            self._check_token(probe)  # type: ignore[attr-defined]  # not in the stubs
        except RejectRequest:
            return False
        return True


def is_by_cookie(request: HttpRequest) -> bool:
    """Say whether a browser could have been made to send this request in its user's name."""
    if settings.SESSION_COOKIE_NAME in request.COOKIES:
        return True
    if not request.COOKIES or "Authorization" in request.headers:
        return False
    user = getattr(request, "user", None)
    return user is not None and bool(user.is_authenticated)


def is_same_site(request: HttpRequest) -> bool:
    """Say whether a request that came with a cookie came from our own or a trusted page."""
    if getattr(request, "_dont_enforce_csrf_checks", False):  # Django's test client
        return True
    if request.headers.get("Sec-Fetch-Site") == "same-origin":
        return True
    checks = _Checks(_no_response)
    return checks.has_trusted_origin(request) or checks.has_token(request)


def is_foreign(request: HttpRequest) -> bool:
    """Say whether a cookie came along that a foreign page may have sent."""
    return is_by_cookie(request) and not is_same_site(request)
