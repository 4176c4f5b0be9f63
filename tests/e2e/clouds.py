"""Buckets and containers for sites of the tests."""

from __future__ import annotations

import uuid

from tests.e2e.site import Cloud
from tests.servers.azurite import AzuriteServer
from tests.servers.moto import MotoServer


def make_s3(server: MotoServer, transport: str) -> Cloud:
    """Make a bucket, and a storage over it."""
    client, bucket = server.client(), f"site-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=bucket)
    options = {
        "bucket_name": bucket,
        "endpoint_url": server.url,
        "access_key": server.access_key,
        "secret_key": server.secret_key,
        "region_name": server.region,
        "transport": transport,
    }

    def read(name: str) -> bytes:
        data: bytes = client.get_object(Bucket=bucket, Key=name)["Body"].read()
        return data

    def names() -> list[str]:
        return [one["Key"] for one in client.list_objects_v2(Bucket=bucket).get("Contents", ())]

    storage = {"BACKEND": "async_uploads.storage.s3.S3AsyncUploadStorage", "OPTIONS": options}
    return Cloud(storage, server.url, read, names)


def make_azure(server: AzuriteServer, transport: str) -> Cloud:
    """Make a container that browsers may talk to, and a storage over it."""
    from azure.storage.blob import BlobServiceClient, CorsRule

    service = BlobServiceClient.from_connection_string(server.connection_string)
    rule = CorsRule(["*"], ["GET", "PUT", "HEAD"], allowed_headers=["*"], exposed_headers=["*"], max_age_in_seconds=60)
    service.set_service_properties(cors=[rule])
    container = service.create_container(f"site-{uuid.uuid4().hex[:12]}")
    options = {
        "connection_string": server.connection_string,
        "azure_container": container.container_name,
        "transport": transport,
    }

    def read(name: str) -> bytes:
        return container.download_blob(name).readall()

    def names() -> list[str]:
        return [str(one.name) for one in container.list_blobs()]

    storage = {"BACKEND": "async_uploads.storage.azure.AzureAsyncUploadStorage", "OPTIONS": options}
    return Cloud(storage, server.account_url.rpartition("/")[0], read, names)
