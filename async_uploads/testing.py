"""For the tests of projects: a finished upload in one line."""

from __future__ import annotations

from typing import IO, Any

from django.core.files.base import ContentFile, File
from django.db import transaction
from django.db.models import Model
from django.utils import timezone

from async_uploads import signals, sniffing
from async_uploads.journal import AsyncTempFile, write_database


def upload_file(field: Any, content: bytes | str | IO[bytes], *, name: str = "file.bin", owner: Any = "") -> str:
    """Store a file as the finished upload of a field and return its key, ready to be assigned or posted.

    The upload is what the browser would have made; no permission, limit or restriction is checked::

        key = upload_file(Document.file, b"hello", name="hello.txt")
        client.post("/documents/add/", {"title": "A", "file": key})

    Args:
        field: The model field: ``Document._meta.get_field("file")``, or ``Document.file``.
        content: The file's content.
        name: Its true name.
        owner: Whose upload it is: a user, the text of the journal's column, or nobody.

    Returns:
        Its key.
    """
    field = getattr(field, "field", field)
    file: File[Any]
    if isinstance(content, str):
        content = content.encode()
    file = ContentFile(content, name=name) if isinstance(content, bytes) else File(content, name=name)
    file.seek(0)
    media_type = sniffing.detect(file.read(sniffing.HEAD_SIZE), name)
    file.seek(0)
    if isinstance(owner, Model):
        owner = f"user:{owner.pk}"
    row = AsyncTempFile.create_for_field(field, name, owner=owner, length=file.size, media_type=media_type)
    row.key = row.object_name = field.storage.save(row.key, file)
    row.finished_at = row.last_activity = timezone.now()
    with transaction.atomic(using=write_database()):
        row.save()
        signals.send(signals.upload_finished, row)
    return row.key
