"""A process of its own with Django, a database of its own and an empty storage."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.db import connection
from django.test import Client

from async_uploads.journal import AsyncTempFile
from tests import settings
from tests.async_uploads import promoting, tusclient
from tests.async_uploads.faults import clouds
from tests.testapp.models import Document

MEDIA = Path(settings.MEDIA_ROOT)
#: On Linux this is a file system of its own.
ELSEWHERE = Path("/dev/shm", f"async-uploads-{os.getpid()}")
MODELS = (promoting.Triple, Document)
field_of = promoting.field_of


def make_upload(field: Any, content: bytes, name: str) -> str:
    """Make an upload, in the cloud by tus; returns its key."""
    if clouds.current is None:
        return promoting.make_upload(field, content, name)
    return tusclient.upload(Client(), tusclient.field_id(field.model, field.name), name, content)


def build() -> None:
    """Make the tables."""
    call_command("migrate", run_syncdb=True, verbosity=0)
    for name in ("first", "second", "third"):
        field_of(promoting.Triple, name)._perm_create = None  # anybody may upload


def reset() -> None:
    """Empty the tables and the storage."""
    for model in (*MODELS, AsyncTempFile):
        model.objects.all().delete()
    for directory in (MEDIA, ELSEWHERE):
        shutil.rmtree(directory, ignore_errors=True)
    MEDIA.mkdir(parents=True)
    if clouds.current is not None:
        clouds.current.reset()


def divide() -> None:
    """Let the documents lie on another file system than the uploads."""
    ELSEWHERE.mkdir()
    (MEDIA / "docs").symlink_to(ELSEWHERE)
    if ELSEWHERE.stat().st_dev == MEDIA.stat().st_dev:
        raise LookupError(f"{ELSEWHERE} lies on the same file system as {MEDIA}")


def close() -> None:
    """Leave no connection that a fork would share."""
    connection.close()


__all__ = ["MEDIA", "MODELS", "build", "close", "divide", "field_of", "make_upload", "reset"]
