"""What only a real implementation of S3 refuses: forms against their policy, changed signatures, foreign origins."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from django.test import Client

from async_uploads import validation
from async_uploads.storage import s3_probe
from async_uploads.values import AsyncFileInputData
from tests.async_uploads import s3
from tests.async_uploads.promoting import field_of
from tests.async_uploads.tusclient import field_id
from tests.servers.rgw import RgwServer

pytestmark = [pytest.mark.django_db, pytest.mark.e2e]

PNG = b"\x89PNG\r\n\x1a\n" + bytes(92)
ORIGIN = "https://www.example.com"


@pytest.fixture
def bucket(rgw: RgwServer) -> Iterator[str]:
    with s3.attached(rgw) as name:
        yield name


def sign(client: Client, **more: Any) -> Any:
    question = {"fieldId": field_id(s3.Clip), "filename": "a.png", "size": 100, "transport": "signed", **more}
    answer = client.post("/uploads/generate-upload-url/", json.dumps(question), content_type="application/json")
    return answer.json()


def send(target: Any, content: bytes, **fields: str | None) -> requests.Response:
    """Send a form; a field that is ``None`` is left out."""
    url = target["uploadUrl"]
    form = {name: value for name, value in {**url["fields"], **fields}.items() if value is not None}
    return requests.post(url["url"], data=form, files={"file": ("a.png", content)}, timeout=60)


def test_a_form_as_it_was_signed_is_taken(bucket: str, client: Client) -> None:
    target = sign(client)
    assert send(target, PNG).status_code == 204
    pending = validation.check(field_of(s3.Clip), AsyncFileInputData(key=target["key"], name="a.png"))
    assert pending is not None
    assert pending.row.length == 100
    stored = s3.copying.client.head_object(Bucket=bucket, Key=f"site/media/{target['key']}")
    assert stored["ContentType"] == "image/png"


@pytest.mark.parametrize(
    ("size", "fields", "code"),
    [
        (101, {}, "EntityTooLarge"),
        (99, {}, "EntityTooSmall"),
        (0, {}, "EntityTooSmall"),
        (100, {"key": "site/media/films/2026/owned.png"}, "AccessDenied"),
        (100, {"Content-Type": "text/html"}, "AccessDenied"),
        (100, {"Content-Type": None}, "AccessDenied"),
        (100, {"Content-Disposition": "inline"}, "AccessDenied"),
        (100, {"acl": "public-read"}, "AccessDenied"),
        (100, {"x-amz-meta-async-upload-source": "forged"}, "AccessDenied"),
        (100, {"success_action_redirect": "https://evil.example"}, "AccessDenied"),
        (100, {"x-amz-signature": "0" * 64}, "AccessDenied"),
        (100, {"x-amz-credential": "stranger/20261122/us-east-1/s3/aws4_request"}, "AccessDenied"),
    ],
)
def test_a_form_that_was_changed_is_refused(
    bucket: str, client: Client, size: int, fields: dict[str, str | None], code: str
) -> None:
    target = sign(client)
    answer = send(target, (PNG * 2)[:size], **fields)
    assert answer.status_code in (400, 403)
    assert f"<Code>{code}</Code>" in answer.text
    assert s3.keys(s3.copying) == {}


def test_the_fields_limit_is_the_services_where_the_size_is_not_known(
    bucket: str, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(field_of(s3.Clip), "max_size", 1)
    target = sign(client, size=None)
    assert "<Code>EntityTooLarge</Code>" in send(target, bytes(2**20 + 1)).text
    assert send(target, bytes(2**20)).status_code == 204


def test_a_form_is_good_for_its_time_only(bucket: str, client: Client, settings: Any) -> None:
    settings.ASYNC_UPLOADS = {"UPLOAD_URL_EXPIRY": -5}
    answer = send(sign(client), PNG)
    assert answer.status_code in (400, 403)
    assert s3.keys(s3.copying) == {}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("docs/a.txt", "docs/b.txt"),
        ("response-content-disposition=attachment", "response-content-disposition=inline"),
        ("X-Amz-Expires=60", "X-Amz-Expires=600"),
    ],
)
def test_a_download_that_was_changed_is_refused(bucket: str, old: str, new: str) -> None:
    for name in "ab":
        s3.copying.client.put_object(Bucket=bucket, Key=f"site/media/docs/{name}.txt", Body=b"secret")
    url = s3.copying.generate_download_url(
        "docs/a.txt", "field", expire=60, parameters={"ResponseContentDisposition": "attachment"}
    )
    assert requests.get(url, timeout=60).content == b"secret"
    assert old in url
    assert requests.get(url.replace(old, new), timeout=60).status_code == 403
    assert requests.get(url.partition("?")[0], timeout=60).status_code == 403


def test_the_cors_rule_of_the_hint_lets_browsers_send_forms_and_see_the_etag(bucket: str, client: Client) -> None:
    target = sign(client)
    question = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    assert requests.options(target["uploadUrl"]["url"], headers=question, timeout=60).status_code == 403
    rules = {"CORSRules": [s3_probe.CORS]}
    s3.copying.client.put_bucket_cors(Bucket=bucket, CORSConfiguration=rules)
    answer = requests.options(target["uploadUrl"]["url"], headers=question, timeout=60)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] in (ORIGIN, "*")
    url = target["uploadUrl"]
    sent = requests.post(
        url["url"], data=url["fields"], files={"file": ("a.png", PNG)}, headers={"Origin": ORIGIN}, timeout=60
    )
    assert sent.status_code == 204
    assert sent.headers["Access-Control-Expose-Headers"] == "ETag"
    foreign = {**question, "Origin": "https://evil.example"}
    refused = requests.options(url["url"], headers=foreign, timeout=60)
    assert "Access-Control-Allow-Origin" not in refused.headers
