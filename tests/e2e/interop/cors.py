"""What django-cors-headers does with the settings that our documentation asks for; it is no dependency of ours."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

DEFAULT_HEADERS = ("accept", "authorization", "content-type", "user-agent", "x-csrftoken", "x-requested-with")
DEFAULT_METHODS = ("DELETE", "GET", "OPTIONS", "PATCH", "POST", "PUT")
ALLOW_HEADERS = (*DEFAULT_HEADERS, "tus-resumable", "upload-length", "upload-metadata", "upload-offset")
EXPOSE_HEADERS = (
    "Location",
    "Upload-Offset",
    "Upload-Length",
    "Upload-Expires",
    "Tus-Resumable",
    "Retry-After",
    "Async-Upload-Key",
)


def allow_other_origins(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Answer preflights, and let every origin read the answers."""

    def serve(request: HttpRequest) -> HttpResponse:
        preflight = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        response = HttpResponse() if preflight else get_response(request)
        if "Origin" in request.headers:
            response["Access-Control-Allow-Origin"] = "*"
            if preflight:
                response["Access-Control-Allow-Headers"] = ", ".join(ALLOW_HEADERS)
                response["Access-Control-Allow-Methods"] = ", ".join(DEFAULT_METHODS)
            else:
                response["Access-Control-Expose-Headers"] = ", ".join(EXPOSE_HEADERS)
        return response

    return serve
