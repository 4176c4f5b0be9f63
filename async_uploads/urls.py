"""The default registry's routes as a URLconf: ``path("async-uploads/", include("async_uploads.urls"))``.

The same as ``include(default_async_field_registry.get_url_patterns())``.
"""

from __future__ import annotations

from async_uploads.registry import default_async_field_registry

urlpatterns = default_async_field_registry.get_url_patterns()
