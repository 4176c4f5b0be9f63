"""Talks with their files. An ``AsyncFileField`` is declared like Django's ``FileField``."""

from django.db import models
from django.urls import reverse

from async_uploads.models import AsyncFileField, AsyncImageField

#: The demo's pages are open to whoever opens them: no permission to create, change or download.
EVERYBODY = {"perm_create": None, "perm_update": None, "perm_detail": None}


class Talk(models.Model):
    """A talk, its recording and a picture of its speaker."""

    title = models.CharField(max_length=200)
    speaker = models.CharField(max_length=200, blank=True)
    summary = models.TextField(blank=True)
    video = AsyncFileField("recording", upload_to="videos/%Y/", max_size=20 * 1024, **EVERYBODY)
    picture = AsyncImageField(
        "picture of the speaker",
        upload_to="pictures/",
        blank=True,
        max_size=10,
        file_restrictions=["image/*"],
        width_field="picture_width",
        height_field="picture_height",
        **EVERYBODY,
    )
    picture_width = models.PositiveIntegerField(null=True, blank=True, editable=False)
    picture_height = models.PositiveIntegerField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at", "-pk"]

    def __str__(self):
        return self.title

    def get_absolute_url(self):
        return reverse("talks:edit", args=[self.pk])


class Handout(models.Model):
    """Something to read beside a talk. Its file asks for the model's own permissions, as by default."""

    talk = models.ForeignKey(Talk, on_delete=models.CASCADE, related_name="handouts", null=True, blank=True)
    label = models.CharField(max_length=200, blank=True)
    file = AsyncFileField(upload_to="handouts/", blank=True)

    def __str__(self):
        return self.label or f"Handout {self.pk}"


class Specimen(models.Model):
    """A file that went through the big file lab, of any kind and size."""

    file = AsyncFileField(upload_to="lab/", max_size=None, **EVERYBODY)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-pk"]

    def __str__(self):
        return self.file.name
