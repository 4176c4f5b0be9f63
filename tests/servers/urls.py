"""The routes of the test site."""

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from tests.servers.endpoints import build_engines
from tus_server import served
from tus_server.wsgi import get_urls


def health(request: HttpRequest) -> HttpResponse:
    return HttpResponse("up")


def ways(request: HttpRequest) -> JsonResponse:
    """How bodies came into this process."""
    return JsonResponse(served.BODIES)


urlpatterns = [
    path("health/", health),
    path("served/", ways),
    *(url for name, engine in build_engines().items() for url in get_urls(f"{name}/", engine)),
]
