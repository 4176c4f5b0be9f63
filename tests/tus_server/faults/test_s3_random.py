"""Random uploads to S3 with cuts, faults, deaths and processes that change: all bytes right, no offset goes back.

The default suite plays a seeded slice with parts scaled down, in memory. With ``HYPOTHESIS_PROFILE=thorough`` uploads
have their full lengths, 1 byte to 64 MiB, against moto with S3's own limits.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.servers.moto import MotoServer
from tests.tus_server.faults.wandering import A_FEW_UPLOADS, IS_THOROUGH, UPLOADS, Journey, Wandering, play
from tests.tus_server.stores.s3_kit import Site, client_of, new_bucket
from tus_server.parts import MIB, S3_LIMITS, PartLimits
from tus_server.stores.buffers import ReceiveBudget
from tus_server.testing.s3 import FaultyClient, FaultyManifests, lost_answer
from tus_server.testing.s3_memory import MemoryS3


class WanderingToS3(Wandering):
    """See ``Wandering``."""

    lost_answer = staticmethod(lost_answer)

    def __init__(self, site: Site, limits: PartLimits, chance: random.Random, content: bytes) -> None:
        self.site = site
        self.limits = limits
        self.is_conditional = chance.random() < 0.5
        self.open_before = len(site.open_multiparts())
        super().__init__(chance, limits.usual, content)

    def open(self) -> Any:
        return self.site.open(
            FaultyClient(self.site.client, self.faults),
            FaultyManifests(self.site.manifests, self.faults),
            limits=self.limits,
            buffers=ReceiveBudget(),
            conditional=self.is_conditional,
            **self.options,
        )

    def finished(self) -> bytes:
        return self.site.finished(self.upload_id)

    def check_that_nothing_is_left(self) -> None:
        assert self.site.keys() == []
        # Multipart uploads whose ids were lost with the answers are left to the bucket's lifecycle rule.
        orphans = sum(name in ("create_multipart_upload", "advance") for name, _ in self.fired)
        assert len(self.site.open_multiparts()) <= self.open_before + orphans


def play_on(client: Any, limits: PartLimits, count: int, seed: int) -> Journey:
    site = Site(client, new_bucket(client))
    return play(lambda chance, content: WanderingToS3(site, limits, chance, content), limits.usual, count, seed)


def test_random_uploads_of_scaled_parts_arrive(capsys: pytest.CaptureFixture[str]) -> None:
    limits = PartLimits(smallest=64, largest=4096, most=1000, usual=100)
    journey = play_on(MemoryS3(smallest_part=limits.smallest), limits, UPLOADS, seed=1)
    with capsys.disabled():
        print(f"\n{journey}")
    assert journey.cuts >= 300
    assert journey.kills >= 30


@pytest.mark.e2e
def test_random_uploads_of_full_length_arrive(moto: MotoServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert S3_LIMITS.usual == 8 * MIB
    journey = play_on(client_of(moto), S3_LIMITS, UPLOADS if IS_THOROUGH else A_FEW_UPLOADS, seed=2)
    with capsys.disabled():
        print(f"\n{journey}")
    assert journey.cuts >= (300 if IS_THOROUGH else 5)
