"""The forms. ``AsyncUploadFormMixin`` lets them check that an upload is this visitor's own."""

from django import forms

from async_uploads.forms import AsyncUploadFormMixin
from talks.models import Specimen, Talk


class ArchiveForm(AsyncUploadFormMixin, forms.ModelForm):
    """What our forms share: labels without a colon."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, label_suffix="", **kwargs)


class TalkForm(ArchiveForm):
    """A talk with its files."""

    class Meta:
        model = Talk
        fields = ["title", "speaker", "summary", "video", "picture"]
        widgets = {"summary": forms.Textarea(attrs={"rows": 4})}
        help_texts = {
            "video": "Up to 20 GiB. It uploads while you fill in the rest.",
            "picture": "Optional. An image of at most 10 MiB.",
        }


class SpecimenForm(ArchiveForm):
    """One file for the lab."""

    class Meta:
        model = Specimen
        fields = ["file"]
        labels = {"file": "A big file"}
