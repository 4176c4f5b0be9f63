"""A tus client over Django's test client, as small as the tests need it."""

from __future__ import annotations

from typing import Any

from django.test import Client

from async_uploads.registry import default_async_field_registry
from tus_server.headers import build_metadata

ENDPOINT = "/uploads/tus/"


def field_id(model: Any, name: str = "file") -> str:
    """Return the registry's id of a model's field."""
    return default_async_field_registry.generate_id(model._meta.get_field(name))


def create(client: Client, field: str, filename: str | bytes, length: int | None, **more: Any) -> Any:
    """POST a creation; ``more`` are further metadata, ``headers`` further headers, ``data`` the first bytes."""
    headers, data = more.pop("headers", {}), more.pop("data", b"")
    metadata: dict[str, Any] = {"field_id": field, "filename": filename, **more}
    sent = {
        "Tus-Resumable": "1.0.0",
        "Upload-Metadata": build_metadata({name: value for name, value in metadata.items() if value is not None}),
        **({"Upload-Defer-Length": "1"} if length is None else {"Upload-Length": str(length)}),
        **headers,
    }
    kind = "application/offset+octet-stream" if data else ""
    return client.generic("POST", ENDPOINT, data, content_type=kind, headers=sent)


def patch(client: Client, url: str, offset: int, data: bytes, **headers: str) -> Any:
    """PATCH bytes at an offset."""
    kind = "application/offset+octet-stream"
    sent = {"Tus-Resumable": "1.0.0", "Upload-Offset": str(offset), "Content-Type": kind, **headers}
    return client.generic("PATCH", url, data, content_type=kind, headers=sent)


def request(client: Client, method: str, url: str) -> Any:
    """Send HEAD or DELETE."""
    return client.generic(method, url, headers={"Tus-Resumable": "1.0.0"})


def upload(client: Client, field: str, filename: str, content: bytes, **more: Any) -> str:
    """Upload a whole file and return its key."""
    created = create(client, field, filename, len(content), **more)
    assert created.status_code == 201, created.content
    answer = patch(client, created["Location"], 0, content)
    assert answer.status_code == 204, answer.content
    return str(created["Async-Upload-Key"])
