"""tuspy, a client that is not ours, against both shells."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from tusclient.client import TusClient as Tuspy
from tusclient.exceptions import TusCommunicationError
from tusclient.storage.filestorage import FileStorage

from tests.servers import Cable, RunningServer
from tests.tus_server.conformance.client import TusClient, pattern

CONTENT = pattern(3_000_017)


@pytest.fixture(scope="module", params=["gthread", "uvicorn"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(request.param, tmp_path_factory.mktemp(request.param)) as server:
        yield server


@pytest.fixture
def tus(server: RunningServer) -> TusClient:
    """Our own client, for a look from outside."""
    return TusClient(server.address, server.directory)


@pytest.fixture
def tuspy(server: RunningServer) -> Tuspy:
    return Tuspy(f"{server.url}/files/")


def assert_stored(tus: TusClient, url: str | None, content: bytes) -> None:
    assert url is not None
    path = tus.path_of(url)
    assert tus.offset(path) == len(content)
    assert tus.stored_bytes(path) == content
    assert tus.finishes(path) == 1


def test_an_upload_in_chunks(tus: TusClient, tuspy: Tuspy) -> None:
    uploader = tuspy.uploader(
        file_stream=BytesIO(CONTENT), chunk_size=500_000, metadata={"filename": "отчёт 🎬.bin", "empty": ""}
    )
    uploader.upload()
    assert_stored(tus, uploader.url, CONTENT)
    echo = tus.head(tus.path_of(str(uploader.url))).header("Upload-Metadata") or ""
    assert {pair.split(" ")[0] for pair in echo.split(",")} == {"filename", "empty"}


def test_an_upload_without_a_chunk_size_is_one_patch(server: RunningServer, tus: TusClient) -> None:
    with Cable(server.address) as cable:
        uploader = Tuspy(f"{cable.url}/files/").uploader(file_stream=BytesIO(CONTENT))
        uploader.upload()
        assert cable.connections == 2
    assert_stored(tus, uploader.url, CONTENT)


def test_an_empty_file(tus: TusClient, tuspy: Tuspy) -> None:
    uploader = tuspy.uploader(file_stream=BytesIO())
    uploader.upload()
    assert_stored(tus, uploader.url, b"")


def test_an_upload_goes_on_after_the_server_was_killed(server: RunningServer, tus: TusClient, tuspy: Tuspy) -> None:
    uploader = tuspy.uploader(file_stream=BytesIO(CONTENT), chunk_size=500_000)
    for _ in range(3):
        uploader.upload_chunk()
    assert tus.offset(tus.path_of(str(uploader.url))) == 1_500_000
    server.kill()
    with pytest.raises(TusCommunicationError):
        uploader.upload_chunk()
    server.start()
    again = tuspy.uploader(file_stream=BytesIO(CONTENT), chunk_size=500_000, url=uploader.url)
    assert again.offset == 1_500_000
    again.upload()
    assert_stored(tus, uploader.url, CONTENT)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # tuspy's own, where it is given a path
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_stored_address_is_found_again(tus: TusClient, tuspy: Tuspy, tmp_path: Path) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(CONTENT)
    storage = FileStorage(str(tmp_path / "urls.json"))
    options = {"file_path": str(source), "chunk_size": 1_000_000, "store_url": True, "url_storage": storage}
    uploader = tuspy.uploader(**options)
    uploader.upload(stop_at=1_000_000)
    again = tuspy.uploader(**options)
    assert (again.url, again.offset) == (uploader.url, 1_000_000)
    again.upload()
    storage.close()
    assert_stored(tus, uploader.url, CONTENT)


def test_the_asynchronous_uploader(tus: TusClient, tuspy: Tuspy) -> None:
    uploader = tuspy.async_uploader(file_stream=BytesIO(CONTENT), chunk_size=1_000_000)
    asyncio.run(uploader.upload())
    assert_stored(tus, uploader.url, CONTENT)
