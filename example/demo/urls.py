"""The routes of the demo. ``uploads/`` is all that async_uploads needs."""

from django.contrib import admin
from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.urls import include, path

from async_uploads.registry import default_async_field_registry

urlpatterns = [
    path("", include("talks.urls")),
    path("uploads/", include(default_async_field_registry.get_url_patterns())),
    path("admin/", admin.site.urls),
    *staticfiles_urlpatterns(),
]
