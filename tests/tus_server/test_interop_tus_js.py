"""tus-js-client from Node, a client that is not ours, against both shells."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import Cable, RunningServer
from tests.servers.node import NodeUpload, upload_by_node
from tests.skips import need
from tests.tus_server.conformance.client import TusClient, pattern

need("node")

CONTENT = pattern(3_000_017)


@pytest.fixture(scope="module", params=["gthread", "uvicorn"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(request.param, tmp_path_factory.mktemp(request.param)) as server:
        yield server


@pytest.fixture
def tus(server: RunningServer) -> TusClient:
    """Our own client, for a look from outside."""
    return TusClient(server.address, server.directory)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "source.bin"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def plan(server: RunningServer, source: Path) -> dict[str, object]:
    return {"endpoint": f"{server.url}/files/", "file": str(source)}


def assert_stored(tus: TusClient, url: str, content: bytes = CONTENT) -> None:
    path = tus.path_of(url)
    tus.assert_unchanged(path, len(content), len(content), content)
    assert tus.finishes(path) == 1
    assert "filename 0L7RgtGH0ZHRgiDwn46sLmJpbg==" in (tus.head(path).header("Upload-Metadata") or "")


def test_an_upload_in_chunks(tus: TusClient, plan: dict[str, object]) -> None:
    event = upload_by_node({**plan, "chunkSize": 1_000_000})
    assert event["requests"] == ["POST", "PATCH", "PATCH", "PATCH", "PATCH"]
    assert_stored(tus, event["done"])


@pytest.mark.parametrize("is_in_memory", [False, True])
def test_an_upload_in_one_patch(tus: TusClient, plan: dict[str, object], is_in_memory: bool) -> None:
    event = upload_by_node({**plan, "inMemory": is_in_memory})
    assert event["requests"] == ["POST", "PATCH"]
    assert_stored(tus, event["done"])


def test_a_length_that_is_not_known_at_first(tus: TusClient, plan: dict[str, object]) -> None:
    event = upload_by_node({**plan, "chunkSize": 1_000_000, "stream": True, "options": {"uploadLengthDeferred": True}})
    assert_stored(tus, event["done"])


@pytest.mark.parametrize("chunk_size", [1_000_000, None])
def test_data_during_creation(tus: TusClient, plan: dict[str, object], chunk_size: int | None) -> None:
    event = upload_by_node({**plan, "chunkSize": chunk_size, "options": {"uploadDataDuringCreation": True}})
    assert event["requests"] == (["POST", "PATCH", "PATCH", "PATCH"] if chunk_size else ["POST"])
    assert_stored(tus, event["done"])


def test_the_overridden_method(tus: TusClient, plan: dict[str, object]) -> None:
    event = upload_by_node({**plan, "chunkSize": 1_000_000, "options": {"overridePatchMethod": True}})
    assert event["requests"] == ["POST", "PATCH", "PATCH", "PATCH", "PATCH"]
    assert_stored(tus, event["done"])


def test_an_empty_file(tus: TusClient, plan: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    event = upload_by_node({**plan, "file": str(tmp_path / "empty"), "inMemory": True})
    assert event["requests"] == ["POST"]
    assert_stored(tus, event["done"], b"")


def test_an_upload_that_was_aborted_goes_on_in_another_process(
    server: RunningServer, tus: TusClient, plan: dict[str, object]
) -> None:
    with Cable(server.address) as cable:
        cable.cut_after(1_200_000, "hold")
        with NodeUpload({**plan, "endpoint": f"{cable.url}/files/"}) as upload:
            path = tus.path_of(upload.wait_for("url"))
            assert cable.happened.wait(60)
            assert tus.wait_for_offset(path, 1_200_000) == 1_200_000
    event = upload_by_node({**plan, "url": f"{server.url}{path}"})
    assert event["requests"] == ["HEAD", "PATCH"]
    assert_stored(tus, event["done"])


def test_the_client_retries_by_itself_when_the_server_was_killed(
    server: RunningServer, tus: TusClient, plan: dict[str, object]
) -> None:
    with Cable(server.address) as cable:
        cable.cut_after(1_200_000, "hold")
        with NodeUpload({**plan, "endpoint": f"{cable.url}/files/"}) as upload:
            path = tus.path_of(upload.wait_for("url"))
            assert cable.happened.wait(60)
            assert 0 < tus.wait_for_offset(path, 1_200_000) < len(CONTENT)
            server.kill()
            server.start()
            upload.wait_for("done")
            assert upload.events[-1]["requests"][:3] == ["POST", "PATCH", "HEAD"]
    assert_stored(tus, f"{server.url}{path}")


@pytest.mark.parametrize("options", [{}, {"uploadDataDuringCreation": True}, {"overridePatchMethod": True}])
@pytest.mark.parametrize("chunk_size", [400_000, None])
def test_three_parts_at_once(
    tus: TusClient, plan: dict[str, object], chunk_size: int | None, options: dict[str, object]
) -> None:
    # The client wants to find out the size by itself then.
    parallel = {**options, "parallelUploads": 3, "uploadSize": None}
    event = upload_by_node({**plan, "chunkSize": chunk_size, "inMemory": True, "options": parallel})
    assert event["requests"].count("POST") == 4
    assert event["requests"][-1] == "POST"
    assert_stored(tus, event["done"])
    concat = tus.head(tus.path_of(event["done"])).header("Upload-Concat") or ""
    parts = [tus.path_of(url) for url in concat.removeprefix("final;").split(" ")]
    assert len(parts) == 3
    assert b"".join(tus.stored_bytes(part) or b"" for part in parts) == CONTENT
    assert [tus.finishes(part) for part in parts] == [0, 0, 0]
