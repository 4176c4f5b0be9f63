"""Extensions that the server does not announce: refused, never ignored.

A client that was told of success for one part of a concatenation would lose data. Of our own server the endpoint
``plain`` is asked, whose store has no abilities; a server that announces the extension is left to its own module.
"""

from __future__ import annotations

import pytest

from tus_server.testing.conformance.client import OFFSET_STREAM, HeaderMap, TusClient

checklist = pytest.mark.checklist


def is_announced(tus: TusClient, extension: str) -> bool:
    announced = tus.request("OPTIONS", tus.path, {"Tus-Resumable": None}).header("Tus-Extension") or ""
    return extension in {name.strip() for name in announced.split(",")}


@checklist("CAT-13")
@pytest.mark.parametrize("value", ["partial", "final;/files/a /files/b", "", "nonsense"])
def test_a_concatenation_is_not_an_ordinary_upload(tus: TusClient, value: str) -> None:
    if tus.is_ours:
        tus = tus.at("plain")
        assert not is_announced(tus, "concatenation")
    elif is_announced(tus, "concatenation"):
        pytest.skip("the server announces concatenation")
    before = tus.count_uploads()
    headers: list[HeaderMap] = [
        {"Upload-Concat": value},
        {"Upload-Concat": value, "Upload-Length": "3"},
        {"Upload-Concat": value, "Upload-Length": "3", "Content-Type": OFFSET_STREAM},
    ]
    for one in headers:
        answer = tus.post(None, one, b"abc" if "Content-Type" in one else None)
        assert 400 <= answer.status <= 501
        assert answer.header("Location") is None
    assert tus.count_uploads() == before
