"""One model for each way of using the fields."""

from django.db import models

from async_uploads.models import AsyncFileField, AsyncImageField


class Document(models.Model):
    """Open to everybody."""

    title = models.CharField(max_length=100, blank=True)
    file = AsyncFileField(upload_to="docs/", perm_create=None, perm_update=None, perm_detail=None)


class Picture(models.Model):
    """An optional image with its dimensions, open to everybody."""

    title = models.CharField(max_length=100, blank=True)
    image = AsyncImageField(
        upload_to="pictures/",
        width_field="width",
        height_field="height",
        null=True,
        blank=True,
        perm_create=None,
        perm_update=None,
        perm_detail=None,
    )
    width = models.PositiveIntegerField(null=True, blank=True)
    height = models.PositiveIntegerField(null=True, blank=True)


class Guarded(models.Model):
    """Asks for the model's own permissions, as by default."""

    file = AsyncFileField(upload_to="guarded/")


class Limited(models.Model):
    """At most one MiB, of images and PDF."""

    file = AsyncFileField(
        upload_to="limited/",
        max_size=1,
        file_restrictions=["image/*", ".pdf"],
        perm_create=None,
        perm_update=None,
        perm_detail=None,
    )


class Legacy(models.Model):
    """Django's own field, for comparison and migration."""

    file = models.FileField(upload_to="legacy/")
