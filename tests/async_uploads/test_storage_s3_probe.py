"""The check that tries a bucket: what it lacks is said, with a hint, and nothing is left in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from django.core.checks import CheckMessage
from django.core.management import CommandError, call_command

from async_uploads import checks
from async_uploads.storage import s3_probe
from async_uploads.storage.azure import AzureAsyncUploadStorage
from async_uploads.storage.base import AsyncUploadStorage
from async_uploads.storage.s3 import S3AsyncUploadStorage
from tests.async_uploads import s3

RULE: dict[str, Any] = {
    "ID": "half",
    "Status": "Enabled",
    "Filter": {"Prefix": ""},
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 14},
}


@pytest.fixture(params=["moto", pytest.param("rgw", marks=pytest.mark.e2e)])
def storage(request: pytest.FixtureRequest) -> Iterator[S3AsyncUploadStorage]:
    """A storage in a new bucket that has everything, with what the service itself lacks in ``service``."""
    built = s3.build_storage(location="site/media")
    with s3.attached(request.getfixturevalue(request.param), built) as bucket:
        built.client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [RULE]})
        built.service = request.param  # type: ignore[attr-defined]  # for ``find``
        yield built
        assert s3.keys(built) == {}
        assert s3.multiparts(built) == []


def find(storage: S3AsyncUploadStorage) -> set[str]:
    """Return the numbers of what is found, without what the service always lacks."""
    found: list[CheckMessage] = storage.probe()
    assert all(message.hint and "The bucket" in str(message.msg) for message in found)
    return {str(message.id).removeprefix("async_uploads.") for message in found} - {"I101", "I102"}


def test_a_bucket_that_has_everything(storage: S3AsyncUploadStorage) -> None:
    assert find(storage) == set()


def test_what_the_services_lack(storage: S3AsyncUploadStorage) -> None:
    found = {str(message.id).removeprefix("async_uploads.") for message in storage.probe()}
    assert found == {"moto": {"I101", "I102"}, "rgw": {"I102"}}[storage.service]  # type: ignore[attr-defined]


def test_a_bucket_that_everybody_can_read(storage: S3AsyncUploadStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    built = storage.temporary_parameters("", "text/plain", "a.txt")
    monkeypatch.setattr(storage, "temporary_parameters", lambda *_: {**built, "ACL": "public-read"})
    assert find(storage) == {"W107"}
    storage.querystring_auth = False
    assert find(storage) == set(), "that was meant"


def test_conditions_that_are_sent_in_vain(storage: S3AsyncUploadStorage) -> None:
    storage.conditional_writes = True
    assert find(storage) == {"moto": set(), "rgw": {"W101"}}[storage.service]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"Filter": {"Prefix": "site/media/async-temp-files/"}}, {"W104"}),
        ({"Filter": {"Prefix": "site/media/"}}, set()),
        ({"Filter": {"Prefix": "elsewhere/"}}, {"W104"}),
        ({"Status": "Disabled"}, {"W104"}),
        ({"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}}, {"W105"}),
        ({"Expiration": {"Days": 30}}, {"W106"}),
        ({"Filter": {"Prefix": "other/"}, "Expiration": {"Days": 30}}, {"W104"}),
    ],
)
def test_lifecycle_rules(storage: S3AsyncUploadStorage, change: dict[str, Any], expected: set[str]) -> None:
    rules = {"Rules": [{**RULE, **change}]}
    storage.client.put_bucket_lifecycle_configuration(Bucket=storage.bucket_name, LifecycleConfiguration=rules)
    assert find(storage) == expected


def test_no_lifecycle_rules(storage: S3AsyncUploadStorage) -> None:
    storage.client.delete_bucket_lifecycle(Bucket=storage.bucket_name)
    assert find(storage) == {"W104"}


def test_a_rule_that_asks_for_more_than_a_name_does_not_count() -> None:
    assert s3_probe._prefix_of({"Filter": {"Tag": {"Key": "a", "Value": "b"}}}) is None
    assert s3_probe._prefix_of({"Filter": {"And": {"Prefix": "a", "Tags": [{}]}}}) is None
    assert s3_probe._prefix_of({"Filter": {"ObjectSizeGreaterThan": 5}}) is None
    assert s3_probe._prefix_of({"Filter": {"And": {"Prefix": "a/"}}}) == "a/"
    assert s3_probe._prefix_of({"Prefix": "old/"}) == "old/"
    assert s3_probe._prefix_of({}) == ""


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (None, {"W102"}),
        ({"AllowedMethods": ["PUT"], "ExposeHeaders": ["ETag"]}, {"W102"}),
        ({"AllowedMethods": ["POST"]}, {"W103"}),
        ({"AllowedMethods": ["POST"], "ExposeHeaders": ["etag"]}, set()),
        (s3_probe.CORS, set()),
    ],
)
def test_cors_matters_where_browsers_send_to_the_bucket(
    storage: S3AsyncUploadStorage, rule: dict[str, Any] | None, expected: set[str]
) -> None:
    storage.transport = "signed"
    if rule is not None:
        rules = {"CORSRules": [{"AllowedOrigins": ["https://www.example.com"], **rule}]}
        storage.client.put_bucket_cors(Bucket=storage.bucket_name, CORSConfiguration=rules)
    assert find(storage) == expected
    storage.transport = "tus"
    assert find(storage) == set()


class Forbidding:
    """A client that may not make some calls."""

    def __init__(self, client: Any, refuses: Callable[[str, dict[str, Any]], str]) -> None:
        self.client, self.refuses = client, refuses

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.client, name)

        def call(**parameters: Any) -> Any:
            if code := self.refuses(name, parameters):
                raise ClientError({"Error": {"Code": code}}, name)
            return method(**parameters)

        return call if callable(method) else method


@pytest.mark.parametrize(
    ("forbidden", "code", "expected"),
    [
        ("head_object", "403", {"E102"}),
        ("head_object", "InvalidAccessKeyId", {"E101"}),
        ("put_object", "AccessDenied", {"E103"}),
        ("get_object", "AccessDenied", {"E103"}),
        ("copy_object", "AccessDenied", {"E103"}),
        ("create_multipart_upload", "AccessDenied", {"E103"}),
        ("list_parts", "AccessDenied", {"E103"}),
        ("upload_part", "NotImplemented", {"E105"}),
        ("get_bucket_lifecycle_configuration", "AccessDenied", {"I103"}),
    ],
)
def test_what_the_credentials_do_not_allow(
    storage: S3AsyncUploadStorage, forbidden: str, code: str, expected: set[str]
) -> None:
    real = storage.client
    storage._client = Forbidding(real, lambda name, _: code if name == forbidden else "")
    try:
        assert find(storage) == expected
    finally:
        storage._client = real


@pytest.mark.parametrize("forbidden", ["delete_object", "abort_multipart_upload"])
def test_what_cannot_be_removed_is_said(moto: s3.Server, forbidden: str) -> None:
    storage = s3.build_storage()
    with s3.attached(moto, storage):
        storage._client = Forbidding(storage.client, lambda name, _: "AccessDenied" if name == forbidden else "")
        assert "E103" in find(storage)


def test_a_service_that_cannot_be_reached_and_a_bucket_that_is_not_there(moto: s3.Server) -> None:
    storage = s3.build_storage(region_name="us-east-1", access_key="a", secret_key="b")
    assert find(storage) == {"E101"}
    with s3.attached(moto, storage):
        storage.bucket_name = "not-there-at-all"
        assert find(storage) == {"E101"}


# The command.


@pytest.mark.django_db  # the command looks whether there is such a database
def test_the_check_runs_when_it_is_asked_for_only(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def probe(self: AsyncUploadStorage) -> list[CheckMessage]:
        asked.append(self.identity())
        return [checks.Error("Broken", hint="Mend it", id="async_uploads.E103")]

    # Other modules of a whole run have storages of each kind.
    for storage_class in (AsyncUploadStorage, S3AsyncUploadStorage, AzureAsyncUploadStorage):
        monkeypatch.setattr(storage_class, "probe", probe)
    call_command("check", tags=["models"])
    call_command("check", deploy=True)
    call_command("check", tags=["database"], databases=["default"])  # as migrate does
    assert asked == []
    with pytest.raises(CommandError, match="Broken"):
        call_command("check", deploy=True, tags=["async_uploads_buckets"], databases=["default"])
    assert asked
    assert len(asked) == len(set(asked)), "a storage is asked once, whatever the number of its fields"
