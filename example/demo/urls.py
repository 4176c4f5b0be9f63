"""The routes of the demo. ``uploads/`` is all that async_uploads needs."""

from django.conf import settings
from django.contrib import admin
from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.urls import include, path
from django.views.generic import RedirectView

from async_uploads.registry import default_async_field_registry

urlpatterns = [
    path("", include("talks.urls")),
    path("uploads/", include(default_async_field_registry.get_url_patterns())),
    path("admin/", admin.site.urls),
    path("favicon.ico", RedirectView.as_view(url=f"{settings.STATIC_URL}talks/icon.svg")),
    *staticfiles_urlpatterns(),
]
