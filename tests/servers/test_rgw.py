"""The S3 gateway that tests may ask for."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from tests.servers.rgw import RgwServer

pytestmark = pytest.mark.e2e


def test_the_gateway_keeps_objects_and_looks_at_credentials(rgw: RgwServer) -> None:
    client = rgw.client()
    client.create_bucket(Bucket="first")
    client.put_object(Bucket="first", Key="a", Body=b"content")
    assert client.get_object(Bucket="first", Key="a")["Body"].read() == b"content"
    rgw.secret_key = "wrong"
    try:
        stranger = rgw.client()
    finally:
        del rgw.secret_key
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        stranger.get_object(Bucket="first", Key="a")


def test_a_gateway_may_take_parts_of_any_size(small_rgw: RgwServer, rgw: RgwServer) -> None:
    assert join_two_bytes(small_rgw) == b"ab"
    with pytest.raises(ClientError, match="EntityTooSmall"):
        join_two_bytes(rgw)


def join_two_bytes(server: RgwServer) -> bytes:
    """Make an object of two parts of one byte."""
    client = server.client()
    client.create_bucket(Bucket="parts")
    target = {"Bucket": "parts", "Key": "a"}
    upload = {**target, "UploadId": client.create_multipart_upload(**target)["UploadId"]}
    parts = []
    for number, body in enumerate((b"a", b"b"), 1):
        answer = client.upload_part(**upload, PartNumber=number, Body=body)
        parts.append({"PartNumber": number, "ETag": answer["ETag"]})
    client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    content: bytes = client.get_object(**target)["Body"].read()
    return content
