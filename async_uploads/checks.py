"""System checks: what a project has forgotten, said before a user finds it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, models
from django.urls import NoReverseMatch, reverse
from django.utils.module_loading import import_string

from async_uploads import conf, registry
from async_uploads.journal import write_database
from async_uploads.storage.base import AsyncUploadStorage
from async_uploads.widgets import is_bundle_built

#: Shortest column that holds a key with a name worth reading: prefix, date, random part, name.
MIN_LENGTH = 100


def _fields() -> Iterator[Any]:
    """Every registered field, in the order of their ids."""
    for known in registry.registries:
        for _field_id, field in sorted(known.fields_by_id.items()):
            yield field


#: Settings that take a timedelta too, and those that ``None`` turns off.
DURATIONS = ("UPLOAD_LIFETIME", "IDLE_TIMEOUT")
MAY_BE_NONE = ("COPY_IN_BACKGROUND_ABOVE",)


@register("async_uploads")
def check_settings(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Check that ``ASYNC_UPLOADS`` is a dictionary of names that do something, with values that work."""
    configured = getattr(settings, "ASYNC_UPLOADS", None)
    if configured is None:
        return []
    if not isinstance(configured, dict):
        return [
            Error("ASYNC_UPLOADS must be a dictionary.", hint="See the settings' reference.", id="async_uploads.E001")
        ]
    unknown = sorted(str(name) for name in configured if name not in conf.DEFAULTS)
    found: list[CheckMessage] = [
        Error(
            f"ASYNC_UPLOADS has no setting {name!r}.",
            hint=f"Known: {', '.join(conf.DEFAULTS)}.",
            id="async_uploads.E002",
        )
        for name in unknown
    ]
    for name in ("RESOLVE_PERM_NAME", "AUTHENTICATE", "DATABASE_CONTEXT"):
        try:
            conf.get_callable(name)
        except ImportError as error:
            hint = "Give the dotted path of a function."
            found.append(
                Error(f"ASYNC_UPLOADS[{name!r}] cannot be imported: {error}", hint=hint, id="async_uploads.E003")
            )
    if conf.get("DURABILITY") not in ("none", "data", "strict"):
        hint = 'Choose "none", "data" or "strict".'
        found.append(Error("ASYNC_UPLOADS['DURABILITY'] is unknown.", hint=hint, id="async_uploads.E004"))
    return [*found, *_check_numbers(), *_check_lists()]


def _check_lists() -> list[CheckMessage]:
    """Check that settings which are lists are lists of what they should hold."""
    found: list[CheckMessage] = []
    for name, hint in (
        ("UPLOAD_PATHS", 'Give prefixes of paths that begin with "/".'),
        ("UPLOAD_MIDDLEWARE", "Give dotted paths of middleware, or None."),
    ):
        value = conf.get(name)
        if value is None and name == "UPLOAD_MIDDLEWARE":
            continue
        is_list = isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)
        if not is_list or (name == "UPLOAD_PATHS" and not all(each.startswith("/") for each in value)):
            found.append(Error(f"ASYNC_UPLOADS[{name!r}] is {value!r}.", hint=hint, id="async_uploads.E010"))
            continue
        for path in value if name == "UPLOAD_MIDDLEWARE" else ():
            try:
                import_string(path)
            except ImportError as error:
                message = f"ASYNC_UPLOADS[{name!r}] cannot be imported: {error}"
                found.append(Error(message, hint=hint, id="async_uploads.E003"))
    return found


def _check_numbers() -> list[CheckMessage]:
    """Check that settings which count seconds or bytes are positive numbers."""
    found: list[CheckMessage] = []
    for name in (
        "UPLOAD_LIFETIME",
        "IDLE_TIMEOUT",
        "UPLOAD_URL_EXPIRY",
        "DOWNLOAD_URL_EXPIRY",
        "RECEIVE_BUFFER_LIMIT",
        "COPY_IN_BACKGROUND_ABOVE",
    ):
        value = conf.get(name)
        number = value.total_seconds() if name in DURATIONS and isinstance(value, timedelta) else value
        is_number = isinstance(number, int | float) and not isinstance(number, bool)
        if (is_number and number > 0) or (value is None and name in MAY_BE_NONE):
            continue
        hint = "Give seconds or a timedelta." if name in DURATIONS else "Give a positive number."
        found.append(Error(f"ASYNC_UPLOADS[{name!r}] is {value!r}.", hint=hint, id="async_uploads.E009"))
    return found


@register(Tags.urls)
def check_urls(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Check that the routes of each registry that has fields are part of the project's URLs."""
    found: list[CheckMessage] = []
    if not getattr(settings, "ROOT_URLCONF", None):
        return found
    for known in sorted(registry.registries, key=str):
        if not known.fields_by_id:
            continue
        for name in (known.tus_url_name, known.attached_view, known.attached_download_view):
            try:
                reverse(name)
            except (NoReverseMatch, ImproperlyConfigured):
                hint = (
                    f'Add path("async-uploads/", include(registry.get_url_patterns())) to the urlpatterns of '
                    f"{settings.ROOT_URLCONF}."
                )
                message = f"The URL {name!r} of {known} is not included; nothing can be uploaded."
                found.append(Error(message, hint=hint, id="async_uploads.E005"))
                break
    return found


@register(Tags.models)
def check_fields(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Check the storage and the column of every field."""
    found: list[CheckMessage] = []
    for field in _fields():
        if not isinstance(field.storage, AsyncUploadStorage):
            message = f"The storage {field.storage.__class__.__name__} cannot take uploads."
            hint = "Use a subclass of async_uploads.storage.base.AsyncUploadStorage in STORAGES or as storage=."
            found.append(Error(message, hint=hint, obj=field, id="async_uploads.E006"))
            continue
        if field.max_length is not None and field.max_length < MIN_LENGTH:
            message = f"max_length={field.max_length} is too small for the temporary keys of uploads."
            hint = f"Give it at least {MIN_LENGTH}; 500 is the default."
            found.append(Error(message, hint=hint, obj=field, id="async_uploads.E007"))
        if field.storage.transport == "tus" and field.storage.__class__.upload_store is AsyncUploadStorage.upload_store:
            message = f"The storage {field.storage.__class__.__name__} says tus but has no upload_store."
            hint = 'Implement upload_store, or leave transport at "signed".'
            found.append(Error(message, hint=hint, obj=field, id="async_uploads.E008"))
    return found


@register("async_uploads")
def check_lifetime(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Check that no upload is promised a longer life than its storage can give it."""
    if "UPLOAD_LIFETIME" not in conf.get_all():
        return []
    wanted = conf.get_duration("UPLOAD_LIFETIME")
    storages = [field.storage for field in _fields() if isinstance(field.storage, AsyncUploadStorage)]
    limits = {type(each).__name__: each.max_lifetime for each in storages if each.max_lifetime is not None}
    return [
        Warning(
            f"{name} keeps unfinished uploads for {limit.days} days, not for {wanted} (UPLOAD_LIFETIME).",
            hint=f"Set UPLOAD_LIFETIME to at most {limit.days} days; unfinished uploads expire then in any case.",
            id="async_uploads.W005",
        )
        for name, limit in limits.items()
        if wanted > limit
    ]


# Newer versions of Django leave checks of databases out unless they are named, older ones tell them of no database.
@register(Tags.database, "async_uploads_buckets", deploy=True)
def check_buckets(
    app_configs: Sequence[AppConfig] | None = None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Try what the storages need of their services; only where ``--database`` says that services may be asked."""
    if not databases:
        return []
    storages = {field.storage.identity(): field.storage for field in _fields() if hasattr(field.storage, "probe")}
    return [message for _, storage in sorted(storages.items()) for message in storage.probe()]


@register("async_uploads")
def check_bundle(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Check that the browser's part is there."""
    if is_bundle_built():
        return []
    return [
        Warning(
            "The script of <async-upload> is not built: forms show a plain file input.",
            hint="Install a wheel, or run `npm ci && npm run build` in async_uploads/frontend.",
            id="async_uploads.W001",
        )
    ]


@register(Tags.database)
def check_database(
    app_configs: Sequence[AppConfig] | None = None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Check that an SQLite journal can be written by several requests at once."""
    alias = write_database()
    connection = connections[alias]
    if connection.vendor != "sqlite" or alias not in (databases or ()):
        return []
    missing = []
    options = connection.settings_dict.get("OPTIONS", {})
    if str(options.get("transaction_mode") or "").upper() not in ("IMMEDIATE", "EXCLUSIVE"):
        missing.append('"transaction_mode": "IMMEDIATE"')
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode")
        mode = str(cursor.fetchone()[0]).lower()
    if mode not in ("wal", "memory"):
        missing.append('"init_command": "PRAGMA journal_mode=WAL;"')
    if float(options.get("timeout", 5)) < 20:
        missing.append('"timeout": 20')
    if not missing:
        return []
    return [
        Warning(
            f"The SQLite database {alias!r} will often be locked while files are uploaded.",
            hint=f"Add to its OPTIONS: {', '.join(missing)}.",
            id="async_uploads.W002",
        )
    ]


@register(Tags.admin)
def check_admin(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Check that the admin knows whose uploads it is given."""
    middleware = "async_uploads.middleware.CurrentRequestMiddleware"
    if middleware in settings.MIDDLEWARE or not apps.is_installed("django.contrib.admin"):
        return []
    from django.contrib.admin import site

    from async_uploads.forms import AsyncUploadAdminMixin

    owners: dict[type[models.Model], list[str]] = {}
    for field in _fields():
        owners.setdefault(field.model, []).append(field.name)
    return [
        Info(
            f"{type(admin).__name__} cannot tell whose upload a key is that it is given.",
            hint=f"Add {middleware!r} to MIDDLEWARE, or async_uploads.forms.AsyncUploadAdminMixin to the class.",
            obj=model,
            id="async_uploads.I001",
        )
        for model, admin in sorted(site._registry.items(), key=lambda item: item[0]._meta.label)
        if model in owners and not isinstance(admin, AsyncUploadAdminMixin)
    ]
