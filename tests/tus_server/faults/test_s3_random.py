"""Random uploads to S3 with cuts, faults, deaths and processes that change: all bytes right, no offset goes back.

The default suite plays a seeded slice with parts scaled down, in memory. With ``HYPOTHESIS_PROFILE=thorough`` uploads
have their full lengths, 1 byte to 64 MiB, against moto with S3's own limits.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import settings

from tests.tus_server.faults.test_s3_faults import Played
from tests.tus_server.stores.s3_kit import Site, client_of, content_of, new_bucket
from tus_server.parts import S3_LIMITS, PartLimits
from tus_server.stores.buffers import ReceiveBudget
from tus_server.testing.s3_memory import MemoryS3

MIB = 1024 * 1024
IS_THOROUGH = settings.default.max_examples > 100
UPLOADS = 320


class Wandering(Played):
    """A client whose requests are cut, fail, and meet dying processes, by chance."""

    def __init__(self, site: Site, chance: random.Random, size: int, limits: PartLimits, unit: int) -> None:
        self.limits = limits
        self.chance = chance
        self.unit = unit
        self.cuts = self.kills = 0
        options = {"conditional": chance.random() < 0.5, "inline_limit": chance.choice([0, unit // 16, unit // 100])}
        super().__init__(site, options, content_of(size, chance.randrange(1000)))

    def open(self) -> Any:
        store = super().open()
        return self.site.open(
            store.bucket.client,
            store.manifests,
            limits=self.limits,
            buffers=ReceiveBudget(),
            **self.options,
        )

    def wander(self) -> None:
        """Send everything, with trouble on the way."""
        self.create()
        chunk = self.chance.choice([self.unit // 7, self.unit // 2, self.unit, 2 * self.unit, 100 * self.unit])
        piece = max(1, self.unit // 8)
        for _ in range(400):
            if self.told == len(self.content) and self.head() == len(self.content):
                return
            size = max(1, min(chunk, len(self.content) - self.told))
            cut = self.chance.randrange(size) if self.chance.random() < 0.5 else None
            fate = self.chance.random()
            if fate < 0.1:
                self.faults.arm(self.chance.randrange(6), self.chance.choice(["before", "after"]))
            elif fate < 0.2:
                self.faults.arm_death(self.chance.randrange(6), self.chance.choice(["before", "after"]))
            elif fate < 0.3:
                self.restart(self.open())
            before = self.faults
            if self.patch(size, cut, piece).status != 204:
                self.faults.disarm()
                self.head()
            self.cuts += cut is not None
            self.kills += self.faults is not before
        raise AssertionError("the upload does not come to its end")


def play(site: Site, limits: PartLimits, unit: int, count: int, seed: int) -> tuple[int, int]:
    """Play uploads; returns how many cuts and deaths there were."""
    cuts = kills = 0
    for number in range(count):
        chance = random.Random(seed * 100_000 + number)
        # As many small ones as large ones: 1 byte to 8 units.
        size = int(2 ** (chance.random() * (8 * unit).bit_length())) % (8 * unit) + 1
        player = Wandering(site, chance, size, limits, unit)
        try:
            player.wander()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, upload {number} of {size} bytes") from error
        assert player.finished() == player.content, (seed, number)
        site.store.terminate(site.store.get(player.upload_id))
        cuts, kills = cuts + player.cuts, kills + player.kills
    return cuts, kills


def test_random_uploads_of_scaled_parts_arrive(capsys: pytest.CaptureFixture[str]) -> None:
    client = MemoryS3(smallest_part=64)
    limits = PartLimits(smallest=64, largest=4096, most=1000, usual=100)
    cuts, kills = play(Site(client, new_bucket(client)), limits, 100, UPLOADS, seed=1)
    with capsys.disabled():
        print(f"\n{UPLOADS} uploads, {cuts} cuts, {kills} deaths")
    assert cuts >= 300
    assert kills >= 30
    assert client.objects.keys() == set(), "something was left behind"


@pytest.mark.e2e
def test_random_uploads_of_full_length_arrive(
    request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    client = client_of(request.getfixturevalue("moto"))
    count = UPLOADS if IS_THOROUGH else 12
    cuts, kills = play(Site(client, new_bucket(client)), S3_LIMITS, 8 * MIB, count, seed=2)
    with capsys.disabled():
        print(f"\n{count} uploads of up to 64 MiB, {cuts} cuts, {kills} deaths")
    assert cuts >= (300 if IS_THOROUGH else 5)
