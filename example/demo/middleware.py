"""The strictest policy that the pages live under, to prove that the upload field needs nothing more."""

from asgiref.sync import iscoroutinefunction
from django.utils.decorators import sync_and_async_middleware

POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",  # blob: for the preview of a chosen picture
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)


@sync_and_async_middleware
def content_security_policy(get_response):
    """Send the policy with every answer, except with Django's own pages about errors, which are styled inline."""

    def protect(response):
        if response.status_code < 500:
            response.headers.setdefault("Content-Security-Policy", POLICY)
        return response

    if iscoroutinefunction(get_response):

        async def serve_async(request):
            return protect(await get_response(request))

        return serve_async

    def serve(request):
        return protect(get_response(request))

    return serve
