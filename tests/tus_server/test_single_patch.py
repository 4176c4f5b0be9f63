"""One PATCH for the whole file, as most clients send by default: what a cut or a kill leaves, what memory it takes.

The clients are tuspy and tus-js-client without a chunk size; a cable between them and the server is cut.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
from tusclient.client import TusClient as Tuspy
from tusclient.exceptions import TusCommunicationError

from tests.servers import Cable, RunningServer
from tests.servers.node import NodeUpload
from tests.skips import need
from tests.tus_server.conformance.client import TusClient, pattern

pytestmark = pytest.mark.e2e

MIB = 1024 * 1024
CONTENT = pattern(8 * MIB + 7)
#: After how many bytes of the body the cable is cut.
CUTS = {"at once": 1, "64 KiB": 65536, "in the middle": 4 * MIB + 3, "the last byte": len(CONTENT) - 1}

ClientName = Literal["tuspy", "tus-js-client"]
CLIENTS: list[ClientName] = ["tuspy", "tus-js-client"]


@pytest.fixture(scope="module", params=["gthread", "uvicorn"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(request.param, tmp_path_factory.mktemp(request.param)) as server:
        yield server


@pytest.fixture
def tus(server: RunningServer) -> TusClient:
    """Our own client, for a look from outside."""
    return TusClient(server.address, server.directory)


@pytest.fixture
def cable(server: RunningServer) -> Iterator[Cable]:
    with Cable(server.address) as cable:
        yield cable


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "source.bin"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> ClientName:
    if request.param == "tus-js-client":
        need("node")
    name: ClientName = request.param
    return name


def send_until_cut(client: ClientName, endpoint: str, source: Path, meanwhile: Callable[[], None]) -> str:
    """Send the file in one PATCH over a cable that is cut; return the upload's URL.

    ``meanwhile`` runs once the upload exists, and returns when the connection is broken.
    """
    if client == "tus-js-client":
        with NodeUpload({"endpoint": endpoint, "file": str(source), "retryDelays": []}) as upload:
            url: str = upload.wait_for("url")
            meanwhile()
            upload.wait_for("error")
        return url
    with source.open("rb") as stream:
        uploader = Tuspy(endpoint).uploader(file_stream=stream)
        uploader.set_url(uploader.create_url())
        thread = threading.Thread(target=meanwhile)
        thread.start()
        with pytest.raises(TusCommunicationError):
            uploader.upload()
        thread.join()
        assert uploader.url is not None
        return uploader.url


def finish(client: ClientName, server: RunningServer, tus: TusClient, path: str, source: Path) -> None:
    """Let the same client go on from where the server stands, and compare the bytes."""
    if client == "tus-js-client":
        plan = {"endpoint": f"{server.url}/files/", "url": f"{server.url}{path}", "file": str(source)}
        with NodeUpload(plan) as upload:
            upload.wait_for("done")
            assert upload.events[-1]["requests"] == ["HEAD", "PATCH"]
    else:
        with source.open("rb") as stream:
            Tuspy(f"{server.url}/files/").uploader(file_stream=stream, url=f"{server.url}{path}").upload()
    assert tus.offset(path) == len(CONTENT)
    assert tus.stored_bytes(path) == CONTENT
    assert tus.finishes(path) == 1


@pytest.mark.parametrize("count", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("how", ["fin", "rst"])
def test_what_arrived_before_a_cut_is_kept(
    server: RunningServer,
    tus: TusClient,
    cable: Cable,
    source: Path,
    client: ClientName,
    how: Literal["fin", "rst"],
    count: int,
) -> None:
    cable.cut_after(count, how)
    url = send_until_cut(client, f"{cable.url}/files/", source, lambda: _wait(cable))
    path = tus.path_of(url)
    if how == "fin":
        assert tus.wait_for_offset(path, count) == count
    else:
        # A reset may cost what the server had in memory: less than a MiB.
        offset = tus.wait_for_offset(path, count, within=2.0)
        assert count - MIB <= offset <= count
    finish(client, server, tus, path, source)


@pytest.mark.parametrize("count", [65536, 4 * MIB + 3])
def test_what_was_written_before_a_kill_is_kept(
    server: RunningServer, tus: TusClient, cable: Cable, source: Path, client: ClientName, count: int
) -> None:
    seen: list[int] = []

    def kill() -> None:
        _wait(cable)
        path = next(iter(_unfinished(tus)))
        assert 0 < tus.wait_for_offset(path, lambda offset: offset >= max(count - MIB, 1)) < len(CONTENT)
        seen.append(tus.offset(path))
        server.kill()

    cable.cut_after(count, "hold")
    url = send_until_cut(client, f"{cable.url}/files/", source, kill)
    path = tus.path_of(url)
    written = len(tus.stored_bytes(path) or b"")
    server.start()
    assert tus.offset(path) == written
    assert max(seen[0], count - MIB) <= written <= count
    finish(client, server, tus, path, source)


def _wait(cable: Cable) -> None:
    assert cable.happened.wait(60)


def _unfinished(tus: TusClient) -> list[str]:
    """Return the paths of uploads that are not finished, the youngest first."""
    log = tus.directory / "finished.log"
    finished = set(log.read_text().split()) if log.exists() else set()
    records = sorted((tus.directory / "files" / "files").glob("*.upload.json"), key=lambda path: -path.stat().st_mtime)
    ids = [record.name.removesuffix(".upload.json") for record in records]
    return [f"{tus.path}{one}" for one in ids if one not in finished]


# --- memory ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sizes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, Path]]:
    """Files of 16 MiB and 1 GiB, quickly made: one random MiB, with its number in front, again and again."""
    block = random.Random(1).randbytes(MIB - 8)
    files = {}
    for size in (16, 1024):
        path = files[size] = tmp_path_factory.mktemp("large") / f"{size} MiB"
        with path.open("wb") as target:
            for number in range(size):
                target.write(number.to_bytes(8, "big") + block)
    yield files
    for path in files.values():
        path.unlink()


def is_equal(first: Path, second: Path) -> bool:
    """Compare two files; ``filecmp`` would do it in pieces of 8 KiB."""
    if first.stat().st_size != second.stat().st_size:
        return False
    with first.open("rb") as one, second.open("rb") as two:
        while data := one.read(8 * MIB):
            if data != two.read(8 * MIB):
                return False
    return True


def send_whole(client: ClientName, server: RunningServer, tus: TusClient, source: Path) -> None:
    endpoint = f"{server.url}/files/"
    if client == "tus-js-client":
        with NodeUpload({"endpoint": endpoint, "file": str(source)}) as upload:
            url: str | None = upload.wait_for("done")
            assert upload.events[-1]["requests"] == ["POST", "PATCH"]
    else:
        with source.open("rb") as stream:
            uploader = Tuspy(endpoint).uploader(file_stream=stream)
            uploader.upload()
            url = uploader.url
    stored = next(path for path in tus.stored_files(tus.path_of(str(url))) if path.suffix != ".json")
    assert is_equal(stored, source)
    stored.unlink()


@pytest.mark.parametrize("kind", ["gthread", "uvicorn"])
def test_memory_does_not_grow_with_the_file(
    tmp_path: Path, sizes: dict[int, Path], kind: Literal["gthread", "uvicorn"], client: ClientName
) -> None:
    with RunningServer(kind, tmp_path, env={"TEST_SERVER_DURABILITY": "none"}) as server:
        tus = TusClient(server.address, server.directory)
        send_whole(client, server, tus, sizes[16])
        before = server.rss_peak()
        send_whole(client, server, tus, sizes[1024])
        after = server.rss_peak()
    assert after - before <= 32 * MIB, f"{before // MIB} MiB, then {after // MIB} MiB"
