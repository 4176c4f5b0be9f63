"""Registries: ids, names and patterns of URLs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from django.apps import apps
from django.apps.registry import Apps
from django.db import models
from django.urls import URLResolver, include, path, reverse
from django.urls.resolvers import RegexPattern

from async_uploads import registry as module
from async_uploads.models import AsyncFileField
from async_uploads.registry import AsyncFieldRegistry, default_async_field_registry
from tests.async_uploads.promoting import DictionaryStorage, field_of
from tests.testapp.models import Document, Guarded, Limited


@pytest.fixture
def registry() -> AsyncFieldRegistry:
    return AsyncFieldRegistry("second set")


def find_names(patterns: list[Any]) -> list[str | None]:
    return [pattern.name for pattern in patterns]


def test_an_id_names_the_field(registry: AsyncFieldRegistry) -> None:
    assert registry.generate_id(field_of(Document)) == "testapp.Document.file"


def test_a_field_is_registered_any_number_of_times(registry: AsyncFieldRegistry) -> None:
    registry.register_field(field_of(Document))
    registry.register_field(field_of(Document))
    assert registry.fields_by_id == {"testapp.Document.file": field_of(Document)}


def test_two_fields_of_one_id_are_a_mistake() -> None:
    class OneId(AsyncFieldRegistry):
        def generate_id(self, field: models.Field[Any, Any]) -> str:
            return "same"

    registry = OneId("one id")
    registry.register_field(field_of(Document))
    with pytest.raises(ValueError, match="Collision"):
        registry.register_field(field_of(Guarded))


def test_fields_of_made_up_and_abstract_models_are_not_registered(registry: AsyncFieldRegistry) -> None:
    for known_apps, abstract in ((Apps(), False), (apps, True)):
        model = SimpleNamespace(_meta=SimpleNamespace(apps=known_apps, abstract=abstract, label="a.B"))
        registry.register_field(SimpleNamespace(model=model, name="file"))
    assert registry.fields_by_id == {}


def test_a_copy_that_a_schema_editor_makes_does_not_replace_the_field() -> None:
    field = field_of(Limited)
    meta = type("Meta", (), {"app_label": "testapp", "apps": Apps()})
    # SQLite's schema editor remakes a table by a copy of its model, with clones of its fields.
    type("Limited", (models.Model,), {"__module__": Limited.__module__, "Meta": meta, "file": field.clone()})
    assert default_async_field_registry.fields_by_id["testapp.Limited.file"] is field


def test_the_patterns_can_be_asked_for_again(registry: AsyncFieldRegistry) -> None:
    registry.register_field(field_of(Document))
    first, second = registry.get_url_patterns(), registry.get_url_patterns()
    assert find_names(first) == find_names(second)
    assert [each.callback for each in first] == [each.callback for each in second]  # type: ignore[union-attr]


def test_each_registry_has_its_own_names(registry: AsyncFieldRegistry) -> None:
    names = set(find_names(registry.get_url_patterns())) - {None}
    assert names
    assert names.isdisjoint(find_names(default_async_field_registry.get_url_patterns()))
    assert registry.attached_view == "async_uploads_second_set_generate_upload_url"
    assert str(registry) == "AsyncFieldRegistry(name='second set')"


def test_storages_add_their_patterns_once(registry: AsyncFieldRegistry) -> None:
    assert "async_uploads_second_set_upload_file_direct" not in find_names(registry.get_url_patterns())
    registry.register_field(field_of(Document))
    registry.register_field(field_of(Guarded))
    names = find_names(registry.get_url_patterns())
    assert names.count("async_uploads_second_set_upload_file_direct") == 1
    assert names.count("async_uploads_second_set_download_file_direct") == 1


def test_a_storage_can_add_patterns_of_its_own(registry: AsyncFieldRegistry) -> None:
    class Storage(DictionaryStorage):
        def get_url_patterns(self, registry: AsyncFieldRegistry) -> list[Any]:
            return [*super().get_url_patterns(registry), path("mine/", lambda request: None, name="mine")]  # type: ignore[misc]

    field = AsyncFileField(storage=Storage())
    field.model, field.name = Document, "other"
    registry.register_field(field)
    assert "mine" in find_names(registry.get_url_patterns())


@pytest.mark.parametrize(
    ("url", "name", "arguments"),
    [
        ("/uploads/tus/", "tus_url_name", {}),
        ("/uploads/tus/abc", "tus_upload_url_name", {"upload_id": "abc"}),
        ("/uploads/generate-upload-url/", "attached_view", {}),
        ("/uploads/download-file/", "attached_download_view", {}),
    ],
)
def test_urls_are_reversed_by_the_registrys_names(url: str, name: str, arguments: dict[str, str]) -> None:
    assert reverse(getattr(default_async_field_registry, name), kwargs=arguments) == url


@pytest.mark.parametrize("url", ["tus", "tus/", "tus/abc", "tus/abc/"])
def test_the_slash_of_tus_urls_is_optional(url: str) -> None:
    resolver = URLResolver(RegexPattern(r"^"), include(default_async_field_registry.get_url_patterns())[0])
    match = resolver.resolve(url)
    assert match is not None
    assert match.func is default_async_field_registry.get_view("tus")


def test_a_view_that_nobody_made_is_named(monkeypatch: pytest.MonkeyPatch, registry: AsyncFieldRegistry) -> None:
    monkeypatch.setattr(module, "view_factories", {})
    with pytest.raises(LookupError, match="INSTALLED_APPS"):
        registry.get_url_patterns()


@pytest.mark.parametrize(
    ("attached", "name"),
    [
        ("async_uploads_named_generate_upload_url", "async_uploads_named_upload_file_direct"),
        ("files:api:anything", "files:api:async_uploads_named_upload_file_direct"),
        (print, "async_uploads_named_upload_file_direct"),
    ],
)
def test_the_storages_routes_are_found_in_the_namespace_of_the_registrys(attached: object, name: str) -> None:
    registry = AsyncFieldRegistry("named")
    registry.attached_view = attached
    assert registry.get_reversible_name("upload-file-direct") == name
