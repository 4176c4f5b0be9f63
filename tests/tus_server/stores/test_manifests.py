"""Manifests in memory keep the contract of their keepers."""

from __future__ import annotations

import pytest

from tus_server.stores.manifests import Manifest, Manifests, MemoryManifests, Segment
from tus_server.testing.manifests import ManifestsContract
from tus_server.testing.stores import make_record
from tus_server.uploads import UploadRecord


class TestMemoryManifests(ManifestsContract):
    @pytest.fixture
    def manifests(self) -> Manifests:
        return MemoryManifests()

    @pytest.fixture
    def record(self) -> UploadRecord:
        return make_record()


@pytest.mark.parametrize(
    ("manifest", "offset"),
    [
        (Manifest("x"), 0),
        (Manifest("x", part_count=2, parts_end=20), 20),
        (Manifest("x", part_count=2, parts_end=20, tail=(Segment(20, 3), Segment(23, 4))), 27),
        (Manifest("x", tail=(Segment(0, 3),)), 3),
    ],
)
def test_the_offset_follows_from_parts_and_tail(manifest: Manifest, offset: int) -> None:
    assert manifest.offset == offset
