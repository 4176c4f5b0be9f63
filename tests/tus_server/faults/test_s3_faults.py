"""S3 fails at every call that the store makes, before and after its effect, or the process dies there.

The client goes on as clients do. Whatever failed: all bytes are right, no offset goes back or is too large, and nothing
is left behind that the termination does not remove.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import cache
from typing import Any

import pytest
from hypothesis import settings

from tests.tus_server.faults.wandering import Mortal
from tests.tus_server.stores.s3_kit import Site, client_of, content_of, new_bucket
from tus_server.errors import StoreUnavailable
from tus_server.parts import PartLimits
from tus_server.stores import pipeline, s3_tails
from tus_server.stores.buffers import ReceiveBudget
from tus_server.testing.faults import When
from tus_server.testing.s3 import FaultyClient, FaultyManifests, lost_answer
from tus_server.testing.s3_memory import MemoryS3
from tus_server.uploads import Upload

IS_THOROUGH = settings.default.max_examples > 100

LIMITS = PartLimits(smallest=16, largest=1024, most=100, usual=64)
#: How large the uploads are whose parts, segments and copies fail.
SIZE, SIZE_OVER_A_NETWORK = 64 * 5 + 23, 64 * 2 + 23


class Played(Mortal):
    """A client that plays the scenarios."""

    def __init__(self, site: Site, options: dict[str, Any], content: bytes = b"") -> None:
        self.site = site
        self.options = options
        self.is_in_memory = isinstance(site.client, MemoryS3)
        self.size = SIZE if self.is_in_memory else SIZE_OVER_A_NETWORK
        super().__init__(content)

    def open(self) -> Any:
        # In memory parts are recorded at each occasion; over a network only in the end, else the calls could not be
        # counted in advance.
        ticks = itertools.count() if self.is_in_memory else itertools.repeat(0)
        return self.site.open(
            FaultyClient(self.site.client, self.faults),
            FaultyManifests(self.site.manifests, self.faults),
            limits=LIMITS,
            buffers=ReceiveBudget(patience=5),
            clock=lambda: float(next(ticks)),
            **self.options,
        )

    def another(self, content: bytes, concat: str) -> str:
        """Send an upload to its end with the same processes, and return its path."""
        self.upload_id, self.content, self.told, self.sent = "", content, 0, 0
        self.create(Upload_Concat=concat)
        self.send(30)
        return f"/files/{self.upload_id}"

    def finished(self) -> bytes:
        """Return the finished object of the present upload."""
        return self.site.finished(self.upload_id)


def in_chunks(played: Played) -> None:
    """Parts, and tails between them."""
    played.content = content_of(played.size)
    played.create()
    played.send(50, piece=20)
    assert played.finished() == played.content


def by_many_processes(played: Played) -> None:
    """A tail that another process stored is fetched before its part can be sent."""
    played.content = content_of(150)
    played.create()
    while played.told < 150:
        if played.patch(50).status != 204:
            played.head()
        played.restart(played.open())
    assert played.head() == 150
    assert played.finished() == played.content


def in_one(played: Played) -> None:
    """Parts that follow each other, recorded while they come."""
    played.content = content_of(played.size)
    played.create()
    played.send(played.size, piece=40)
    assert played.finished() == played.content


def small(played: Played) -> None:
    """No parts: a tail, and then the object."""
    played.content = content_of(40)
    played.create()
    played.send(25)
    assert played.finished() == played.content


def tiny(played: Played) -> None:
    """One request."""
    played.content = content_of(40)
    played.create()
    played.send(40)
    assert played.finished() == played.content


def with_deferred_length(played: Played) -> None:
    """The length comes with the last bytes."""
    played.content = content_of(150)
    played.create(Upload_Defer_Length="1")
    while played.told < 100:
        if played.patch(50).status != 204:
            played.head()
    for _ in range(20):
        if played.told == 150 and played.head() == 150:
            break
        if played.patch(50, Upload_Length="150").status != 204:
            played.head()
    assert played.finished() == played.content


def made_of_others(played: Played) -> None:
    """Copies, and bytes through memory where a part would be too small."""
    sizes = (90, 5, 130, 3, 70) if played.is_in_memory else (70, 5, 40)
    contents = [content_of(size, seed) for seed, size in enumerate(sizes)]
    paths = [played.another(content, "partial") for content in contents]
    played.upload_id, played.content = "", b"".join(contents)
    played.told, played.sent = 0, len(played.content)
    for _ in range(8):
        response = played.fly("POST", {"Upload-Concat": "final;" + " ".join(paths)})
        if response.status == 201:
            break
    assert response.status == 201
    played.upload_id = (response.header("Location") or "").rpartition("/")[2]
    assert played.head() == len(played.content)
    assert played.finished() == played.content


def terminated(played: Played) -> None:
    """A part, a tail, and then it is removed."""
    played.content = content_of(played.size)
    played.create()
    while played.told < 100:
        if played.patch(100).status != 204:
            played.head()
    for _ in range(8):
        if played.fly("DELETE", {}).status in (204, 404, 410):
            break
    else:
        raise AssertionError("it cannot be removed")
    assert played.fly("HEAD", {}).status in (404, 410)


def remove_everything(site: Site) -> None:
    """Terminate what there is, as the cleanup does."""
    store = site.open()
    for record in list(site.records._records.values()):
        store.terminate(Upload(record, 0))


SCENARIOS: list[tuple[Callable[[Played], None], dict[str, Any]]] = [
    (in_chunks, {"inline_limit": 8, "part_size": 64}),
    (by_many_processes, {"inline_limit": 0, "part_size": 64}),
    (in_one, {}),
    (in_one, {"conditional": True}),
    (small, {"inline_limit": 8}),
    (tiny, {"conditional": True}),
    (with_deferred_length, {"inline_limit": 40, "part_size": 64}),
    (made_of_others, {"inline_limit": 0}),
    (terminated, {"inline_limit": 0, "part_size": 64}),
]


class InPlace(Executor):
    """A pool whose calls are made at once, so that every run makes the same calls in the same order."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


@cache
def bucket_of(client: Any) -> str:
    """Return the one bucket of a server: making one takes longer than an upload."""
    return new_bucket(client)


def open_site(connect: Callable[[], Any]) -> Site:
    """Return a site where nothing is yet."""
    client = connect()
    if isinstance(client, MemoryS3):
        return Site(client, new_bucket(client))
    return Site(client, bucket_of(client), {"location": uuid.uuid4().hex})


@pytest.fixture(
    params=[
        "memory",
        # A real one, and in `make proof` the other stand-in.
        pytest.param("small_rgw", marks=pytest.mark.e2e),
        *([pytest.param("small_moto", marks=pytest.mark.e2e)] if IS_THOROUGH else []),
    ]
)
def connect(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Return what makes a client: of the S3 in memory, or of a server; servers take the better part of a minute."""
    if request.param == "memory":
        for module in (pipeline, s3_tails):
            monkeypatch.setattr(module, "shared_pool", InPlace)
        return MemoryS3
    server = request.getfixturevalue(request.param)
    return lambda: client_of(server)


@pytest.mark.parametrize(("scenario", "options"), SCENARIOS, ids=lambda one: getattr(one, "__name__", ""))
def test_whatever_call_fails_the_upload_comes_to_its_end(
    request: pytest.FixtureRequest,
    connect: Callable[[], Any],
    scenario: Callable[[Played], None],
    options: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Over a network each call is struck in one of the four ways, which take turns; in `make proof` in all of them.
    ways = 4 if "memory" in request.node.callspec.id or IS_THOROUGH else 1
    clean = Played(open_site(connect), options)
    scenario(clean)
    calls, points = clean.faults.count, 0
    names: set[str] = set()
    for skip in range(calls):
        for way in range(skip, skip + ways):
            is_after, is_death = divmod(way % 4, 2)
            names |= play(connect, scenario, options, skip, "after" if is_after else "before", is_death=bool(is_death))
            points += 1
    with capsys.disabled():
        print(f"\n{scenario.__name__} {options}: {calls} calls, {points} points; {', '.join(sorted(names))}")
    assert points >= ways * calls >= ways


def play(
    connect: Callable[[], Any],
    scenario: Callable[[Played], None],
    options: dict[str, Any],
    skip: int,
    when: When,
    *,
    is_death: bool,
) -> set[str]:
    """Play a scenario in which one call fails; returns the name of that call."""
    site = open_site(connect)
    played = Played(site, options)
    faults = played.faults
    if is_death:
        faults.arm_death(skip, when)
    else:
        faults.arm(skip, when, lost_answer if skip % 2 else StoreUnavailable)
    where = f"call {skip}, {when}, {'death' if is_death else 'error'}"
    try:
        scenario(played)
    except AssertionError as error:
        raise AssertionError(f"{scenario.__name__}: {where}: {faults.fired}") from error
    assert faults.fired, where
    remove_everything(site)
    assert site.keys() == [], (where, faults.fired)
    # A multipart upload whose id was lost with the answer is left to the bucket's lifecycle rule.
    is_orphan = any(name in ("create_multipart_upload", "advance") for name, _ in faults.fired)
    assert len(site.open_multiparts()) <= is_orphan, (where, faults.fired)
    return {name for name, _ in faults.fired}
