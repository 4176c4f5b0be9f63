"""One model with one file, under the model's own permissions, as a project would have it."""

from __future__ import annotations

from django.db import models

from async_uploads.models import AsyncFileField


class Item(models.Model):
    """Something with a file."""

    file = AsyncFileField(upload_to="items/%Y/", max_size=None)

    class Meta:
        app_label = "archive"

    def __str__(self) -> str:
        return self.file.name or ""
