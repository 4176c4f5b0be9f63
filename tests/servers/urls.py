"""The routes of the test site."""

from django.http import HttpRequest, HttpResponse
from django.urls import path

from tests.servers.endpoints import build_engines
from tus_server.wsgi import get_urls


def health(request: HttpRequest) -> HttpResponse:
    return HttpResponse("up")


urlpatterns = [
    path("health/", health),
    *(url for name, engine in build_engines().items() for url in get_urls(f"{name}/", engine)),
]
