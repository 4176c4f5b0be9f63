"""The S3 store keeps the contract of all stores, on moto and on Ceph's gateway, and what is special about S3."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tus_server.stores.s3_kit import SMALL, Site, client_of, new_bucket
from tus_server.stores.base import UploadStore
from tus_server.testing.stores import UploadStoreContract
from tus_server.uploads import Upload


class S3Contract(UploadStoreContract):
    """The contract over a bucket: tails in the manifest, tails in segments, and parts of a few bytes."""

    @pytest.fixture(params=["inline", "segments"])
    def store(self, endpoint: Any, request: pytest.FixtureRequest) -> UploadStore:
        client = client_of(endpoint)
        options = {"inline": {}, "segments": {"inline_limit": 0, "location": "some/where"}}[request.param]
        self.site = Site(client, new_bucket(client), options)
        return self.site.store

    def stored_bytes(self, store: UploadStore, upload: Upload) -> bytes:
        return self.site.stored(upload)


class TestOnMoto(S3Contract):
    @pytest.fixture
    def endpoint(self, moto: Any) -> Any:
        return moto


class TestWithSmallParts(S3Contract):
    @pytest.fixture(
        params=[{"part_size": 1}, {"part_size": 3, "conditional": True}, {"part_size": 4, "inline_limit": 0}]
    )
    def store(self, small_moto: Any, request: pytest.FixtureRequest) -> UploadStore:
        client = client_of(small_moto)
        limits = type(SMALL)(smallest=1, largest=1024, most=1000, usual=2)
        self.site = Site(client, new_bucket(client), {"limits": limits, **request.param})
        return self.site.store


@pytest.mark.e2e
class TestOnCeph(S3Contract):
    @pytest.fixture
    def endpoint(self, rgw: Any) -> Any:
        return rgw
