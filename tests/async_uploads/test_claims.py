"""What a save is refused before it writes anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.db import IntegrityError

from async_uploads.claims import AlreadyClaimed
from tests.async_uploads.promoting import Unique, field_of, make_upload, media

assert media

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("media")]


def test_a_save_looks_again_at_an_upload_that_a_failed_save_has_seen(media: Path) -> None:
    key = make_upload(field_of(Unique))
    Unique.objects.create(code="taken", file=make_upload(field_of(Unique)))
    record = Unique(code="taken", file=key)
    with pytest.raises(IntegrityError):
        record.save()
    Unique.objects.create(code="faster", file=key)
    record.code = "free"
    with pytest.raises(AlreadyClaimed):
        record.save()
    assert not Unique.objects.filter(code="free").exists()
