"""The admin, the default registry's endpoints, and a tus server that knows nothing of ``async_uploads``."""

from django.conf import settings
from django.contrib import admin
from django.urls import include, path

from async_uploads.registry import default_async_field_registry
from tus_server.engine import Engine
from tus_server.locks.filesystem import FileLocker
from tus_server.stores.filesystem import FilesystemStore
from tus_server.wsgi import get_urls

standalone = Engine(
    FilesystemStore(settings.RUN_DIRECTORY / "standalone"), FileLocker(settings.RUN_DIRECTORY / "standalone-locks")
)

urlpatterns = [
    path("admin/", admin.site.urls),
    path("uploads/", include(default_async_field_registry.get_url_patterns())),
    *get_urls("files/", standalone),
]
