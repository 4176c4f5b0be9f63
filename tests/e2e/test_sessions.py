"""Uploads that a visitor's page begins at once, on a real server with threads."""

from __future__ import annotations

import base64
import urllib.error
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from tests.e2e.site import Site

pytestmark = pytest.mark.e2e

NEW_SESSIONS = """
from django.contrib.sessions.backends.db import SessionStore
for _ in range(3):
    session = SessionStore()
    session.create()
    print(session.session_key)
"""


def ask(site: Site, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
    """Send a tus request; return the status and the new upload's path."""
    request = urllib.request.Request(site.url + path, method=method)
    for name, value in {"Tus-Resumable": "1.0.0", "Sec-Fetch-Site": "same-origin", **headers}.items():
        request.add_header(name, value)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers.get("Location") or ""
    except urllib.error.HTTPError as error:
        error.close()
        return error.code, ""


def test_uploads_begun_at_once_in_a_fresh_session_all_belong_to_it(site: Site) -> None:
    values = {"field_id": "talks.Specimen.file", "filename": "one.bin"}
    metadata = ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in values.items())
    for session_key in site.run(NEW_SESSIONS).split():
        cookie = {"Cookie": f"sessionid={session_key}"}
        create = partial(ask, site, "POST", "/uploads/tus/")
        with ThreadPoolExecutor(8) as pool:
            headers = {**cookie, "Upload-Length": "10", "Upload-Metadata": metadata}
            created = list(pool.map(create, [headers] * 8))
        assert [status for status, _ in created] == [201] * 8
        for _, path in created:
            assert ask(site, "HEAD", path, cookie)[0] == 200
            assert ask(site, "HEAD", path, {})[0] == 404
