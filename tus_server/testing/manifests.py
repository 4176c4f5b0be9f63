"""The promises of a keeper of manifests, as a test class to subclass."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tus_server.stores.manifests import Finished, Manifest, Manifests, Segment, Stale
from tus_server.uploads import UploadRecord


class ManifestsContract:
    """Subclass it, and give it the fixtures ``manifests`` and ``record``: of an upload without a manifest."""

    def test_of_a_new_upload_there_is_the_empty_manifest(self, manifests: Manifests, record: UploadRecord) -> None:
        assert manifests.load(record) == manifests.reload(record.id) == Manifest(record.id)
        assert manifests.parts(record.id) == ()

    def test_a_manifest_is_found_again_as_it_was_stored(self, manifests: Manifests, record: UploadRecord) -> None:
        wanted = Manifest(
            record.id,
            part_size=8 * 1024**4,
            multipart_id="2~aBc/+=" * 20,
            part_count=2,
            parts_end=2**45,
            tail=(Segment(2**45, 7, "x/y/tail/0-7-1"), Segment(2**45 + 7, 3, data=b"\x00\xff\n")),
            is_unsettled=True,
        )
        stored = manifests.advance(manifests.reload(record.id), wanted, ["one", "two"])
        assert stored == replace(wanted, revision=1)
        assert manifests.reload(record.id) == stored
        assert stored.offset == 2**45 + 10
        finished = replace(
            stored, tail=(), is_unsettled=False, finished=Finished('"etag"-2', 2**45), is_terminated=True
        )
        stored = manifests.advance(stored, finished)
        assert manifests.reload(record.id) == stored == replace(finished, revision=2)

    def test_who_knows_an_old_revision_changes_nothing(self, manifests: Manifests, record: UploadRecord) -> None:
        new = manifests.reload(record.id)
        first = manifests.advance(new, replace(new, part_count=1, parts_end=5, part_size=5), ["one"])
        with pytest.raises(Stale):
            manifests.advance(new, replace(new, part_count=1, parts_end=9, part_size=9), ["other"])
        second = manifests.advance(first, replace(first, part_count=2, parts_end=10), ["two"])
        with pytest.raises(Stale):
            manifests.advance(first, replace(first, part_count=2, parts_end=9), ["other"])
        assert manifests.reload(record.id) == second
        assert manifests.parts(record.id) == ("one", "two")

    def test_parts_are_added_in_order_and_stay(self, manifests: Manifests, record: UploadRecord) -> None:
        known = manifests.reload(record.id)
        for count in (1, 2, 500, 501):
            names = [f"part-{number}" for number in range(known.part_count + 1, count + 1)]
            known = manifests.advance(known, replace(known, part_count=count, parts_end=count), names)
        known = manifests.advance(known, replace(known, tail=(Segment(501, 1, data=b"x"),)))
        assert manifests.parts(record.id) == tuple(f"part-{number}" for number in range(1, 502))

    def test_only_the_parts_that_count_are_told(self, manifests: Manifests, record: UploadRecord) -> None:
        known = manifests.reload(record.id)
        known = manifests.advance(known, replace(known, part_count=3, parts_end=3), ["one", "two", "three"])
        known = manifests.advance(known, replace(known, part_count=1, parts_end=1))
        assert manifests.parts(record.id) == ("one",)
        known = manifests.advance(known, replace(known, part_count=3, parts_end=3), ["zwei", "drei"])
        assert manifests.parts(record.id) == ("one", "zwei", "drei")

    def test_a_part_may_be_replaced(self, manifests: Manifests, record: UploadRecord) -> None:
        known = manifests.reload(record.id)
        known = manifests.advance(known, replace(known, part_count=2, parts_end=2), ["one", "two"])
        manifests.advance(known, replace(known, part_count=3, parts_end=3), ["zwei", "three"])
        assert manifests.parts(record.id) == ("one", "zwei", "three")

    def test_a_manifest_is_forgotten_with_its_parts(self, manifests: Manifests, record: UploadRecord) -> None:
        known = manifests.reload(record.id)
        known = manifests.advance(known, replace(known, part_count=1, parts_end=1), ["one"])
        manifests.delete(record.id)
        manifests.delete(record.id)
        assert manifests.reload(record.id).revision == 0
        assert manifests.parts(record.id) == ()
        with pytest.raises(Stale):
            manifests.advance(known, replace(known, part_count=2, parts_end=2), ["two"])
