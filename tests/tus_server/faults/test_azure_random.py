"""Random uploads to Azure with cuts, faults, deaths and processes that change: all bytes right, no offset goes back.

The default suite plays a seeded slice with blocks scaled down, in memory. With ``HYPOTHESIS_PROFILE=thorough`` uploads
have their full lengths, 1 byte to 64 MiB, against Azurite with the service's own limits.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.servers.azure import WatchedContainer, lost_answer, make_container
from tests.servers.azurite import AzuriteServer
from tests.tus_server.faults.wandering import A_FEW_UPLOADS, IS_THOROUGH, UPLOADS, Wandering, play
from tests.tus_server.stores.test_azure_faults import Site
from tus_server.parts import MIB
from tus_server.stores import azure
from tus_server.testing.azure_memory import MemoryAzure


class WanderingToAzure(Wandering):
    """See ``Wandering``."""

    lost_answer = staticmethod(lost_answer)

    def __init__(self, site: Site, chance: random.Random, content: bytes) -> None:
        self.site = site
        super().__init__(chance, azure.LIMITS.usual, content)

    def open(self) -> Any:
        return self.site.open(self.faults, part_size=None, **self.options)

    def finished(self) -> bytes:
        assert self.site.records.get(self.upload_id).finished_at is not None
        ((name, data),) = self.site.blobs().items()
        assert name == f"u/{self.upload_id}"
        return data

    def check_that_nothing_is_left(self) -> None:
        assert self.site.blobs() == {}
        if isinstance(self.site.container, WatchedContainer):
            self.site.container.data.clear()  # gigabytes


def test_random_uploads_of_scaled_blocks_arrive(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(azure, "LIMITS", azure.BlockLimits(smallest=16, largest=4096, usual=100))
    site = Site(MemoryAzure())
    journey = play(lambda chance, content: WanderingToAzure(site, chance, content), 100, UPLOADS, seed=3)
    with capsys.disabled():
        print(f"\n{journey}")
    assert journey.cuts >= 300
    assert journey.kills >= 30


@pytest.mark.e2e
def test_random_uploads_of_full_length_arrive(azurite: AzuriteServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert azure.LIMITS.usual == 8 * MIB
    site = Site(WatchedContainer(make_container(azurite)))
    count = UPLOADS if IS_THOROUGH else A_FEW_UPLOADS
    journey = play(lambda chance, content: WanderingToAzure(site, chance, content), 8 * MIB, count, seed=4)
    with capsys.disabled():
        print(f"\n{journey}")
    assert journey.cuts >= (300 if IS_THOROUGH else 5)
