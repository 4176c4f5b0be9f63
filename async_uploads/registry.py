"""Which fields take uploads, under which ids, and the URLs of one registry.

The registry names no view: ``apps`` hands view factories to ``view_factories`` when the app is ready.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakSet

from django.apps import apps
from django.db import models
from django.urls import URLPattern, URLResolver, path, re_path

from async_uploads.journal import TUS_UPLOAD_ROUTE, get_field_label

# Any: a view is whatever Django's path() takes.
ViewFactory = Callable[["AsyncFieldRegistry"], Any]

#: Route -> what makes its view for a registry.
view_factories: dict[str, ViewFactory] = {}

TUS = "tus"
GENERATE_UPLOAD_URL = "generate-upload-url"
DOWNLOAD_FILE = "download-file"

#: All registries that exist.
registries: WeakSet[AsyncFieldRegistry] = WeakSet()


class AsyncFieldRegistry:
    """A set of fields that share their endpoints; most projects need only ``default_async_field_registry``.

    Args:
        name: Appears in the names of its URLs, so it must be unique.

    Attributes:
        fields_by_id: The registered fields.
        attached_view, attached_download_view: What ``reverse`` takes to find the view that creates uploads and the one
            that downloads files: names of our own URLs, replaceable (namespaced names, for instance).
        tus_url_name, tus_upload_url_name: The same for the tus endpoint and for one upload (argument ``upload_id``).
    """

    def __init__(self, name: str) -> None:
        self.name = name
        # Any: the model fields live above this module.
        self.fields_by_id: dict[str, Any] = {}
        self.attached_view: Any = self.get_url_name(GENERATE_UPLOAD_URL)
        self.attached_download_view: Any = self.get_url_name(DOWNLOAD_FILE)
        self.tus_url_name = self.get_url_name(TUS)
        self.tus_upload_url_name = self.get_url_name(TUS_UPLOAD_ROUTE)
        self._views: dict[str, Any] = {}
        registries.add(self)

    def __str__(self) -> str:
        return f"AsyncFieldRegistry(name={self.name!r})"

    def get_url_name(self, route: str) -> str:
        """Return the name of the URL with this route."""
        return "_".join(["async_uploads", re.sub(r"\W", "_", self.name), route.replace("-", "_")])

    def get_reversible_name(self, route: str) -> str:
        """Return what ``reverse`` takes for a route: its URL name, in the namespace that ``attached_view`` names."""
        attached = self.attached_view if isinstance(self.attached_view, str) else ""
        namespace, colon, _ = attached.rpartition(":")
        return f"{namespace}{colon}{self.get_url_name(route)}"

    def generate_id(self, field: models.Field[Any, Any]) -> str:
        """Return the id under which browsers name a field: ``app_label.Model.field``."""
        return get_field_label(field)

    def register_field(self, field: Any) -> None:
        """Register a field of a real model; fields of models that migrations and schema editors make up are ignored.

        Raises:
            ValueError: Another field has its id.
        """
        if field.model._meta.apps is not apps or field.model._meta.abstract:
            return
        field_id = self.generate_id(field)
        present = self.fields_by_id.get(field_id)
        # The same model may be prepared twice (reloaded modules); the later one counts, as in Django's app registry.
        if present is not None and get_field_label(present) != get_field_label(field):
            raise ValueError(f"Collision on field id {field_id!r} for field {field} vs {present}")
        self.fields_by_id[field_id] = field

    def get_view(self, route: str) -> Any:
        """Return this registry's view for a route, made once.

        Raises:
            LookupError: The app is not ready, or nobody has made a factory for the route.
        """
        if route not in self._views:
            if route not in view_factories:
                raise LookupError(f"There is no view for {route!r}. Is 'async_uploads' in INSTALLED_APPS?")
            self._views[route] = view_factories[route](self)
        return self._views[route]

    def get_url_patterns(self) -> list[URLPattern | URLResolver]:
        """Return the URL patterns of this registry and of its fields' storages; may be called any number of times."""
        tus = self.get_view(TUS)
        patterns: list[URLPattern | URLResolver] = [
            path("tus/", tus, name=self.tus_url_name),
            path("tus", tus),
            re_path(r"^tus/(?P<upload_id>.+?)/?$", tus, name=self.tus_upload_url_name),
            path(
                "generate-upload-url/", self.get_view(GENERATE_UPLOAD_URL), name=self.get_url_name(GENERATE_UPLOAD_URL)
            ),
            path("download-file/", self.get_view(DOWNLOAD_FILE), name=self.get_url_name(DOWNLOAD_FILE)),
        ]
        known = {(str(pattern.pattern), getattr(pattern, "name", None)) for pattern in patterns}
        for storage in self._find_storages():
            for pattern in storage.get_url_patterns(self):
                mark = (str(pattern.pattern), getattr(pattern, "name", None))
                if mark not in known:
                    known.add(mark)
                    patterns.append(pattern)
        return patterns

    def _find_storages(self) -> Iterable[Any]:
        storages: list[Any] = []
        for field in self.fields_by_id.values():
            storage = field.storage
            if hasattr(storage, "get_url_patterns") and not any(storage is known for known in storages):
                storages.append(storage)
        return storages


#: The registry of all fields that name no other.
default_async_field_registry = AsyncFieldRegistry("default")
