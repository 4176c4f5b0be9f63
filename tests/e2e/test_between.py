"""Between commit and promotion: the record names a permanent place that holds no file yet."""

from __future__ import annotations

import hashlib
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.site import served

pytestmark = pytest.mark.e2e

CONTENT = b"claimed, not promoted"

# The process ends right after the commit, as if it had been killed there.
SAVE = f"""
import os
from async_uploads import promotion
from async_uploads.testing import upload_file
from talks.models import Talk
promotion.promote = lambda *args, **kwargs: False
key = upload_file(Talk.video, {CONTENT!r}, name="Между.bin")
talk = Talk.objects.create(title="Between", video=key)
assert talk.video.name.startswith("videos/"), talk.video.name
assert not os.path.exists(talk.video.storage.path_of(talk.video.name))
print(talk.pk)
"""

READ = """
from talks.models import Talk
talk = Talk.objects.get(title="Between")
with talk.video.open("rb") as file:
    print(talk.video.size, talk.video.url, file.read().decode(), sep="|")
"""


def test_another_process_opens_sizes_and_downloads_a_claimed_file_before_its_promotion(
    tmp_path: Path, database: Path
) -> None:
    with served("uvicorn", tmp_path / "site", database=database) as site:
        pk = int(site.run(SAVE))
        [(name,)] = site.rows("SELECT video FROM talks_talk WHERE id = ?", pk)
        assert name.endswith("Между.bin")
        assert not (site.media / name).exists()
        [waiting] = site.uploads()

        size, url, content = site.run(READ).strip().split("|")
        assert (int(size), content.encode()) == (len(CONTENT), CONTENT)
        with urllib.request.urlopen(site.url + url) as answer:
            assert answer.read() == CONTENT
            assert "filename*=utf-8''%D0%9C" in answer.headers["Content-Disposition"]

        # The reconciler leaves it to that process for some minutes, and then finishes what it left.
        site.manage("cleanup_async_temp_files", "--quiet")
        assert waiting.exists()
        site.run("from async_uploads.models import AsyncTempFile; AsyncTempFile.objects.update(retry_at=None)")
        site.manage("cleanup_async_temp_files", "--quiet")
        assert not waiting.exists()
        assert hashlib.sha256((site.media / name).read_bytes()).digest() == hashlib.sha256(CONTENT).digest()
        with urllib.request.urlopen(site.url + url) as answer:
            assert answer.read() == CONTENT
