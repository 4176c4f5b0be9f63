"""The extensions Concatenation and Concatenation-Unfinished (checklist section 10)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from functools import partial

import pytest

from tus_server.testing.conformance.client import OFFSET_STREAM, Answer, HeaderMap, TusClient, at_once, pattern

checklist = pytest.mark.checklist

PARTIAL = {"Upload-Concat": "partial"}
PARTS = [pattern(70_001, 1), pattern(1, 2), pattern(1_300_000, 3)]


@pytest.fixture(autouse=True)
def announced(tus: TusClient) -> None:
    """Nothing to test where the extension is not announced (a peer)."""
    answer = tus.request("OPTIONS", tus.path, {"Tus-Resumable": None})
    if not tus.is_ours and "concatenation" not in (answer.header("Tus-Extension") or ""):
        pytest.skip("the peer does not announce it")


def final_of(*urls: str) -> dict[str, str]:
    return {"Upload-Concat": f"final;{' '.join(urls)}"}


def post_final(tus: TusClient, *urls: str, **more: HeaderMap) -> Answer:
    return tus.post(None, {**final_of(*urls), **more.get("headers", {})})


def create_final(tus: TusClient, *urls: str) -> str:
    answer = post_final(tus, *urls)
    assert answer.status == 201, answer
    return tus.path_of(answer.location)


def create_partials(tus: TusClient, *contents: bytes) -> list[str]:
    return [tus.upload(content, PARTIAL) for content in contents]


def assert_refused(tus: TusClient, statuses: tuple[int, ...], headers: HeaderMap, body: bytes | None = None) -> None:
    """Check that a POST is refused and that it created nothing."""
    before = tus.count_uploads()
    answer = tus.post(None, headers, body)
    assert answer.status in statuses, answer
    assert answer.header("Location") is None
    assert tus.count_uploads() == before


def test_both_extensions_are_announced(tus: TusClient) -> None:
    answer = tus.request("OPTIONS", tus.path, {"Tus-Resumable": None})
    extensions = {name.strip() for name in (answer.header("Tus-Extension") or "").split(",")}
    assert {"concatenation", "concatenation-unfinished"} <= extensions


@checklist("CAT-01")
def test_a_partial_upload_is_an_upload_of_its_own(tus: TusClient) -> None:
    url = tus.create(6, PARTIAL)
    for offset, piece in ((0, b"abc"), (3, b"def")):
        head = tus.head(url)
        assert (head.status, head.offset, head.header("Upload-Length")) == (200, offset, "6")
        assert head.header("Upload-Concat") == "partial"
        assert tus.patch(url, offset, piece).offset == offset + 3
    head = tus.head(url)
    assert (head.offset, head.header("Upload-Concat")) == (6, "partial")
    tus.assert_unchanged(url, 6, 6, b"abcdef")
    assert tus.finishes(url) == 0


@checklist("CAT-01", "CAT-02")
def test_partial_uploads_may_begin_with_bytes_or_without_a_length(tus: TusClient) -> None:
    created = tus.post(3, {**PARTIAL, "Content-Type": OFFSET_STREAM}, b"abc")
    assert (created.status, created.offset) == (201, 3)
    second = tus.create(None, PARTIAL)
    assert tus.patch(second, 0, b"def", {"Upload-Length": "3"}).status == 204
    third = tus.create(3, PARTIAL)
    digest = base64.b64encode(hashlib.sha1(b"ghi").digest()).decode()
    assert tus.patch(third, 0, b"ghi", {"Upload-Checksum": f"sha1 {digest}"}).status == 204
    final = create_final(tus, tus.path_of(created.location), second, third)
    tus.assert_unchanged(final, 9, 9, b"abcdefghi")


@checklist("CAT-02", "CAT-03")
def test_a_final_upload_has_the_bytes_of_its_parts_in_order(tus: TusClient) -> None:
    urls = create_partials(tus, *PARTS)
    for order in ((0, 1, 2), (2, 0), (1,)):
        listed = [urls[number] for number in order]
        content = b"".join(PARTS[number] for number in order)
        final = create_final(tus, *listed)
        head = tus.head(final)
        assert (head.status, head.offset, head.header("Upload-Length")) == (200, len(content), str(len(content)))
        assert head.header("Upload-Concat") == f"final;{' '.join(listed)}"
        assert head.header("Upload-Expires") is None
        assert head.header("Upload-Defer-Length") is None
        tus.assert_unchanged(final, len(content), len(content), content)
        assert tus.finishes(final) == 1
    for url, content in zip(urls, PARTS, strict=True):
        tus.assert_unchanged(url, len(content), len(content), content)
        assert tus.finishes(url) == 0


@checklist("CAT-03")
def test_the_list_is_echoed_literally(tus: TusClient) -> None:
    first, second = create_partials(tus, b"abc", b"def")
    value = f"final;http://{tus.address[0]}:{tus.address[1]}{first}   {second}"
    answer = tus.post(None, {"Upload-Concat": value})
    assert tus.head(tus.path_of(answer.location)).header("Upload-Concat") == value


def build_urls(tus: TusClient, url: str) -> dict[str, str]:
    host, port = tus.address
    name = tus.id_of(url)
    return {
        "path-absolute": url,
        "path-absolute with a slash": f"{url}/",
        "relative": name,
        "relative with a dot": f"./{name}",
        "absolute": f"http://{host}:{port}{url}",
        "absolute, upper case": f"HTTP://{host.upper()}:{port}{url}",
        "without scheme": f"//{host}:{port}{url}",
        "percent-encoded": f"{url.removesuffix(name)}%{ord(name[0]):02X}{name[1:]}",
        "with a query": f"{url}?token=1",
    }


@checklist("CAT-04")
@pytest.mark.parametrize("form", sorted(build_urls(TusClient(("", 0), None), "/files/name")))  # type: ignore[arg-type]
def test_urls_are_resolved(tus: TusClient, form: str) -> None:
    first, second = create_partials(tus, b"abc", b"def")
    final = create_final(tus, build_urls(tus, first)[form], build_urls(tus, second)[form])
    tus.assert_unchanged(final, 6, 6, b"abcdef")


@checklist("CAT-04")
@pytest.mark.parametrize("headers", [{"Host": "localhost"}, {"X-Forwarded-Host": "localhost"}])
@pytest.mark.parametrize("url", ["http://localhost{}", "https://LocalHost{}", "https://localhost:8443{}"])
def test_absolute_urls_may_have_the_name_that_the_client_knows(
    tus: TusClient, headers: dict[str, str], url: str
) -> None:
    if not tus.is_ours:
        pytest.skip("the peer may know itself by other names")
    (one,) = create_partials(tus, b"abc")
    assert tus.post(None, {**final_of(url.format(one)), **headers}).status == 201


@checklist("CAT-05", "CAT-07")
@pytest.mark.parametrize("is_complete", [True, False])
def test_a_final_upload_takes_no_bytes(tus: TusClient, is_complete: bool) -> None:
    first = tus.upload(b"abc", PARTIAL)
    second = tus.create(3, PARTIAL)
    if is_complete:
        tus.patch(second, 0, b"def")
    final = create_final(tus, first, second)
    requests: list[tuple[HeaderMap, bytes]] = [
        ({}, b"x"),
        ({"Upload-Offset": "6"}, b""),
        ({"Upload-Offset": "6"}, b"ghi"),
        ({"Upload-Offset": "999"}, b"ghi"),
        ({"Upload-Offset": "nonsense"}, b"ghi"),
        ({"Upload-Offset": None}, b"ghi"),
        ({"Content-Type": "text/plain"}, b"ghi"),
        ({"Upload-Length": "1"}, b"ghi"),
        ({"Upload-Checksum": "nonsense"}, b"ghi"),
    ]
    for headers, body in requests:
        assert tus.patch(final, 0, body, headers).status == 403
    tus.assert_unchanged(first, 3, 3, b"abc")
    if is_complete:
        tus.assert_unchanged(final, 6, 6, b"abcdef")
        tus.assert_unchanged(second, 3, 3, b"def")
        assert tus.finishes(final) == 1
    else:
        assert tus.head(final).offset is None
        tus.assert_unchanged(second, 0, 3, b"")


@checklist("CAT-06")
def test_a_part_may_come_twice_and_serve_several(tus: TusClient) -> None:
    first, second = create_partials(tus, b"abc", b"de")
    for urls, content in (((first, second, first), b"abcdeabc"), ((first, first), b"abcabc"), ((second,), b"de")):
        final = create_final(tus, *urls)
        tus.assert_unchanged(final, len(content), len(content), content)
        assert tus.finishes(final) == 1


@checklist("CAT-06")
def test_a_repeated_request_creates_another_upload_with_the_same_bytes(tus: TusClient) -> None:
    urls = create_partials(tus, *PARTS)
    content = b"".join(PARTS)
    answers = [post_final(tus, *urls), *at_once(*[partial(post_final, tus, *urls)] * 3)]
    finals = {tus.path_of(answer.location) for answer in answers}
    assert [answer.status for answer in answers] == [201] * 4
    assert len(finals) == 4
    for final in finals:
        tus.assert_unchanged(final, len(content), len(content), content)
        assert tus.finishes(final) == 1


@checklist("CAT-06")
def test_a_part_that_was_deleted_cannot_be_used_again(tus: TusClient) -> None:
    first, second = create_partials(tus, b"abc", b"def")
    final = create_final(tus, first, second)
    assert tus.delete(first).status == 204
    tus.assert_unchanged(final, 6, 6, b"abcdef")
    assert_refused(tus, (400, 403, 404), final_of(first, second))


@checklist("CAT-07")
def test_a_final_upload_waits_for_its_parts(tus: TusClient) -> None:
    first, second = tus.create(3, PARTIAL), tus.create(3, PARTIAL)
    created = post_final(tus, first, second)
    assert (created.status, created.offset) == (201, None)
    final = tus.path_of(created.location)
    steps: list[tuple[str, int, bytes]] = [(second, 0, b"def"), (first, 0, b"ab"), (first, 2, b"c")]
    for url, offset, piece in steps:
        head = tus.head(final)
        assert (head.status, head.offset, head.header("Upload-Length")) == (200, None, "6")
        assert head.header("Upload-Concat") == f"final;{first} {second}"
        assert head.header("Upload-Defer-Length") is None
        assert tus.finishes(final) == 0
        assert tus.patch(url, offset, piece).status == 204
    tus.assert_unchanged(final, 6, 6, b"abcdef")
    tus.assert_unchanged(final, 6, 6, b"abcdef")
    assert tus.finishes(final) == 1


@checklist("CAT-07")
def test_the_length_is_told_once_all_lengths_are_known(tus: TusClient) -> None:
    first, second = tus.create(3, PARTIAL), tus.create(None, PARTIAL)
    final = create_final(tus, first, second)
    for answer in (tus.head(final), tus.head(final)):
        assert (answer.status, answer.offset, answer.header("Upload-Length")) == (200, None, None)
    assert tus.patch(second, 0, b"d", {"Upload-Length": "4"}).status == 204
    assert tus.head(final).header("Upload-Length") == "7"
    assert tus.head(final).offset is None
    tus.patch(second, 1, b"efg")
    tus.patch(first, 0, b"abc")
    tus.assert_unchanged(final, 7, 7, b"abcdefg")
    assert tus.finishes(final) == 1


@checklist("CAT-07")
def test_of_requests_at_once_one_completes_the_final_upload(tus: TusClient) -> None:
    url = tus.create(len(PARTS[2]), PARTIAL)
    final = create_final(tus, url, url)
    tus.patch(url, 0, PARTS[2])
    answers = at_once(*[partial(tus.head, final)] * 6)
    assert {answer.status for answer in answers} <= {200, 503}
    assert all((answer.offset is None) == (answer.status == 503) for answer in answers)
    assert all(answer.header("Retry-After") for answer in answers if answer.status == 503)
    tus.assert_unchanged(final, 2 * len(PARTS[2]), 2 * len(PARTS[2]), PARTS[2] * 2)
    assert tus.finishes(final) == 1


@checklist("CAT-07")
def test_a_final_upload_that_lost_a_part_is_gone(tus: TusClient) -> None:
    first, second = tus.upload(b"abc", PARTIAL), tus.create(3, PARTIAL)
    final = create_final(tus, first, second)
    assert tus.delete(second).status == 204
    answer = tus.head(final)
    assert (answer.status in (404, 410), answer.offset) == (True, None)
    assert tus.delete(final).status == 204
    assert tus.stored_files(final) == []


Wrong = Callable[[TusClient, str], str]
WRONG_URLS: dict[str, Wrong] = {
    "unknown": lambda tus, url: url[:-1] + ("A" if url[-1] != "A" else "B"),
    "not an upload": lambda tus, url: tus.path,
    "an ordinary upload": lambda tus, url: tus.upload(b"def"),
    "a final upload": lambda tus, url: create_final(tus, url),
    "a deleted upload": lambda tus, url: _deleted(tus),
    "of another host": lambda tus, url: f"http://elsewhere.example{url}",
    "of another port": lambda tus, url: f"http://{tus.address[0]}:1{url}",
    "of another host, without scheme": lambda tus, url: f"//elsewhere.example{url}",
    "of another scheme": lambda tus, url: f"ftp://{tus.address[0]}:{tus.address[1]}{url}",
    "no address": lambda tus, url: f"file:{url}",
    "of another endpoint": lambda tus, url: f"/eternal/{tus.id_of(url)}",
    "with more in its path": lambda tus, url: f"{url}/more",
    "with more in front of it": lambda tus, url: f"/more{url}",
    "with a host in its path": lambda tus, url: f"/elsewhere.example{url}",
    "up to elsewhere": lambda tus, url: "../../../etc/passwd",
    "up to elsewhere, encoded": lambda tus, url: f"{tus.path}%2e%2e%2f%2e%2e%2fetc",
    "a broken address": lambda tus, url: f"http://[{url}",
    "a port that is none": lambda tus, url: f"http://localhost:x{url}",
}


def _deleted(tus: TusClient) -> str:
    url = tus.upload(b"def", PARTIAL)
    tus.delete(url)
    return url


@checklist("CAT-08")
@pytest.mark.parametrize("wrong", WRONG_URLS.values(), ids=WRONG_URLS)
def test_what_is_no_part_of_this_endpoint_is_refused(tus: TusClient, wrong: Wrong) -> None:
    (good,) = create_partials(tus, b"abc")
    bad = wrong(tus, good)
    for urls in ((good, bad), (bad, good), (bad,)):
        assert_refused(tus, (400, 403, 404), final_of(*urls))


@checklist("CAT-08")
def test_an_expired_part_is_refused(clocked: TusClient) -> None:
    finished, unfinished = clocked.upload(b"abc", PARTIAL), clocked.create(3, PARTIAL)
    clocked.travel(3700)
    for url in (finished, unfinished):
        assert_refused(clocked, (400, 403, 404), final_of(url))
        assert clocked.head(url).status == 410


@checklist("CAT-08")
def test_a_part_of_somebody_else_is_refused_as_an_unknown_one(guarded: TusClient) -> None:
    (url,) = create_partials(guarded, b"abc")
    unknown = url[:-4] + "0000"
    before = guarded.count_uploads()
    answers = [guarded.post(None, {**final_of(each), "X-Refuse": "access"}) for each in (url, unknown)]
    assert [answer.status for answer in answers] == [404, 404]
    assert answers[0].body == answers[1].body
    assert guarded.count_uploads() == before
    assert post_final(guarded, url).status == 201


@checklist("CAT-10")
def test_the_final_upload_needs_a_permission_of_its_own(guarded: TusClient) -> None:
    (url,) = create_partials(guarded, b"abc")
    assert_refused(guarded, (403,), {**final_of(url), "X-Refuse": "create"})
    assert_refused(guarded, (403,), {**PARTIAL, "Upload-Length": "3", "X-Refuse": "create"})


MALFORMED = [
    *("", "Partial", "PARTIAL", "partials", "partial;", "partial; /files/x", "partial,partial", "nonsense", ";", "{}"),
    *(
        "final",
        "final;",
        "final; ",
        "Final;{}",
        "final {}",
        "final:{}",
        "final;{},{}",
        "final;{}\t{}",
        "final;{}\u00e9",
    ),
]


@checklist("CAT-09")
@pytest.mark.parametrize("value", MALFORMED)
def test_a_malformed_header_is_refused(tus: TusClient, value: str) -> None:
    (url,) = create_partials(tus, b"abc")
    header = value.replace("{}", url)
    for more in ({}, {"Upload-Length": "3"}, {"Upload-Defer-Length": "1"}):
        assert_refused(tus, (400, 404), {"Upload-Concat": header.encode("latin-1"), **more})


@checklist("CAT-09")
def test_two_headers_are_refused(tus: TusClient) -> None:
    first, second = create_partials(tus, b"abc", b"def")
    values = [["partial", "partial"], ["partial", f"final;{first}"], [f"final;{first}", f"final;{second}"]]
    for value in values:
        assert_refused(tus, (400,), {"Upload-Concat": value, "Upload-Length": "3"})
        assert_refused(tus, (400,), {"Upload-Concat": value})


@checklist("CAT-09")
@pytest.mark.parametrize("more", [{"Upload-Length": "3"}, {"Upload-Length": "0"}, {"Upload-Defer-Length": "1"}])
def test_a_final_upload_with_a_length_is_refused(tus: TusClient, more: dict[str, str]) -> None:
    (url,) = create_partials(tus, b"abc")
    assert_refused(tus, (400,), {**final_of(url), **more})


@checklist("CAT-09")
@pytest.mark.parametrize("kind", [OFFSET_STREAM, "text/plain", None])
def test_a_final_upload_with_a_body_is_refused(tus: TusClient, kind: str | None) -> None:
    (url,) = create_partials(tus, b"abc")
    assert_refused(tus, (400, 403), {**final_of(url), "Content-Type": kind}, b"abc")
    before = tus.count_uploads()
    chunked = tus.post(None, {**final_of(url), "Content-Type": kind}, iter([b"abc"]))
    assert chunked.status in (400, 403)
    assert tus.count_uploads() == before
    for empty in (b"", iter(())):
        assert tus.post(None, {**final_of(url), "Content-Type": kind}, empty).status == 201


@checklist("CAT-10")
def test_metadata_is_not_inherited(tus: TusClient) -> None:
    first = tus.upload(b"abc", {**PARTIAL, "Upload-Metadata": "filename YS50eHQ="})
    assert tus.head(first).header("Upload-Metadata") == "filename YS50eHQ="
    assert tus.head(create_final(tus, first)).header("Upload-Metadata") is None
    answer = post_final(tus, first, headers={"Upload-Metadata": "filename Yi50eHQ=,kind"})
    assert tus.head(tus.path_of(answer.location)).header("Upload-Metadata") == "filename Yi50eHQ=,kind"
    assert_refused(tus, (400,), {**final_of(first), "Upload-Metadata": "kind ***"})


@checklist("CAT-11")
@pytest.mark.parametrize("contents", [[b""], [b"", b"abc", b""], [b"", b""]])
def test_empty_parts(tus: TusClient, contents: list[bytes]) -> None:
    urls = [tus.create(0, PARTIAL) if not content else tus.upload(content, PARTIAL) for content in contents]
    final = create_final(tus, *urls)
    content = b"".join(contents)
    tus.assert_unchanged(final, len(content), len(content), content)
    assert tus.finishes(final) == 1
    assert [tus.finishes(url) for url in urls] == [0] * len(urls)


@checklist("CAT-11")
def test_a_sum_above_the_limit_is_refused(limited: TusClient) -> None:
    first, second, third = create_partials(limited, b"a" * 600, b"b" * 400, b"c")
    assert post_final(limited, first, second).status == 201
    for urls in ((first, second, third), (first, first)):
        assert_refused(limited, (413,), final_of(*urls))
    unfinished = limited.create(1000, PARTIAL)
    assert_refused(limited, (413,), final_of(first, unfinished))


@checklist("CAT-11")
def test_a_sum_that_turns_out_above_the_limit_is_refused_then(limited: TusClient) -> None:
    first, second = limited.upload(b"a" * 600, PARTIAL), limited.create(None, PARTIAL)
    final = create_final(limited, first, second)
    limited.patch(second, 0, b"b" * 600, {"Upload-Length": "600"})
    answer = limited.head(final)
    assert (answer.status, answer.offset) == (413, None)
    assert limited.finishes(final) == 0


@checklist("CAT-12")
def test_thirty_parts(tus: TusClient) -> None:
    contents = [pattern(1000 + number, number) for number in range(30)]
    urls = create_partials(tus, *contents)
    final = create_final(tus, *[f"http://{tus.address[0]}:{tus.address[1]}{url}" for url in urls])
    content = b"".join(contents)
    tus.assert_unchanged(final, len(content), len(content), content)


@checklist("CAT-12")
def test_a_final_upload_can_be_deleted_and_its_parts_stay(tus: TusClient) -> None:
    first, second = create_partials(tus, b"abc", b"def")
    waiting = tus.create(3, PARTIAL)
    for urls in ((first, second), (first, waiting)):
        final = create_final(tus, *urls)
        assert tus.delete(final).status == 204
        assert tus.head(final).status in (404, 410)
        assert tus.stored_files(final) == []
    tus.assert_unchanged(first, 3, 3, b"abc")
    assert tus.patch(waiting, 0, b"ghi").status == 204
    final = create_final(tus, first, second, waiting)
    tus.assert_unchanged(final, 9, 9, b"abcdefghi")


@checklist("EXP-05", "CAT-02")
def test_parts_expire_and_their_final_upload_stays(clocked: TusClient) -> None:
    url = clocked.create(3, PARTIAL)
    clocked.travel(3000)
    assert clocked.patch(url, 0, b"abc").header("Upload-Expires")
    final = create_final(clocked, url)
    clocked.travel(6000)
    assert clocked.head(url).header("Upload-Expires")
    clocked.travel(6700)
    assert clocked.head(url).status == 410
    clocked.assert_unchanged(final, 3, 3, b"abc")
    assert clocked.head(final).header("Upload-Expires") is None


@checklist("EXP-04", "CAT-07")
def test_a_final_upload_that_waited_too_long_is_gone(clocked: TusClient) -> None:
    url = clocked.create(3, PARTIAL)
    final = create_final(clocked, url)
    assert clocked.head(final).header("Upload-Expires")
    clocked.travel(3700)
    assert clocked.head(final).status == 410


@checklist("CAT-13")
@pytest.mark.parametrize("value", ["partial", "final;{}", "", "nonsense"])
def test_a_store_that_cannot_concatenate_refuses(plain: TusClient, value: str) -> None:
    url = plain.upload(b"abc")
    concat = {"Upload-Concat": value.format(url)}
    assert_refused(plain, (400, 501), concat)
    assert_refused(plain, (400, 501), {**concat, "Upload-Length": "3"})
    assert_refused(plain, (400, 501), {**concat, "Upload-Length": "3", "Content-Type": OFFSET_STREAM}, b"abc")
