"""``Upload-Metadata`` (checklist section 4)."""

from __future__ import annotations

import base64

import pytest

from tus_server.testing.conformance.client import HeaderValue, TusClient

checklist = pytest.mark.checklist


def encode(value: str | bytes) -> str:
    return base64.b64encode(value.encode() if isinstance(value, str) else value).decode()


def parse(header: str | None) -> dict[str, bytes]:
    """Read the echo the way a client would."""
    pairs = [pair.strip(" ").partition(" ") for pair in (header or "").split(",")]
    assert len({key for key, _, _ in pairs}) == len(pairs)
    return {key: base64.b64decode(value, validate=True) for key, _, value in pairs}


ECHOED: dict[str, tuple[str, dict[str, bytes]]] = {
    # realistic
    "a name": (f"filename {encode('holiday.mp4')}", {"filename": b"holiday.mp4"}),
    "name and type": (
        f"filename {encode('a b.pdf')},filetype {encode('application/pdf')}",
        {"filename": b"a b.pdf", "filetype": b"application/pdf"},
    ),
    "Cyrillic": (f"filename {encode('отчёт.pdf')}", {"filename": "отчёт.pdf".encode()}),
    "emoji and right to left": (f"filename {encode('🎬 שלום.mov')}", {"filename": "🎬 שלום.mov".encode()}),
    "blanks after commas": (f"a {encode('1')}, b {encode('2')}", {"a": b"1", "b": b"2"}),
    # META-02
    "key alone": ("is_confidential", {"is_confidential": b""}),
    "key with a blank": (f"empty ,a {encode('1')}", {"empty": b"", "a": b"1"}),
    "key with a blank at the end": (f"a {encode('1')},empty ", {"a": b"1", "empty": b""}),
    # pathological
    "4 KB": (f"long {encode('x' * 3000)}", {"long": b"x" * 3000}),
    "fifty keys": (
        ",".join(f"key{number} {encode(str(number))}" for number in range(50)),
        {f"key{number}": str(number).encode() for number in range(50)},
    ),
    "odd key": (f"!#$%&'*+-.^_`|~/:;<=>?@[]{{}}() {encode('1')}", {"!#$%&'*+-.^_`|~/:;<=>?@[]{}()": b"1"}),
}


@checklist("META-01", "META-02", "META-07")
@pytest.mark.parametrize(("header", "values"), ECHOED.values(), ids=ECHOED)
def test_head_gives_the_same_pairs(tus: TusClient, header: str, values: dict[str, bytes]) -> None:
    url = tus.create(3, {"Upload-Metadata": header})
    assert parse(tus.head(url).header("Upload-Metadata")) == values
    tus.patch(url, 0, b"abc")
    assert parse(tus.head(url).header("Upload-Metadata")) == values


@checklist("META-01")
@pytest.mark.parametrize("header", [None, ""])
def test_no_metadata_is_echoed_as_none(tus: TusClient, header: str | None) -> None:
    url = tus.create(3, {"Upload-Metadata": header})
    assert not tus.head(url).header("Upload-Metadata")


@checklist("META-03")
@pytest.mark.parametrize("value", [b"\xff\xfe\x00\x01", b"\xc3\x28", bytes(range(256)), b"\xed\xa0\x80"])
def test_values_that_are_not_utf8_are_echoed_exactly_or_refused(tus: TusClient, value: bytes) -> None:
    answer = tus.post(3, {"Upload-Metadata": f"raw {encode(value)}"})
    assert answer.status == 201 or 400 <= answer.status < 500
    if answer.status == 201:
        assert parse(tus.head(tus.path_of(answer.location)).header("Upload-Metadata")) == {"raw": value}


MALFORMED: dict[str, HeaderValue] = {
    "not Base64": "a !!!!",
    "wrong padding": "a YWJjZA",
    "text after the padding": "a YQ==YQ==",
    "URL-safe alphabet": "a _-_-",
    "only a comma": ",",
    "empty pair": "a YQ==,,b YQ==",
    "comma at the end": "a YQ==,",
    "comma at the start": ",a YQ==",
    "two blanks": "a  YQ==",
    "three words": "a YQ== YQ==",
    "tab": "a\tYQ==",
    "key twice": "a YQ==,a Yg==",
    "key twice without values": "a,a",
    "non-ASCII Base64": "a YQ=\u00e9",
}


@checklist("META-04", "META-05")
@pytest.mark.parametrize("header", MALFORMED.values(), ids=MALFORMED)
def test_malformed_metadata_is_refused(tus: TusClient, header: HeaderValue) -> None:
    before = tus.count_uploads()
    answer = tus.post(3, {"Upload-Metadata": header})
    assert (answer.status, answer.header("Location")) == (400, None)
    assert tus.count_uploads() == before


@checklist("META-05")
@pytest.mark.parametrize("key", ["ключ".encode(), b"caf\xe9", "😀".encode()])
def test_a_key_that_is_not_ascii_is_refused_or_taken(tus: TusClient, key: bytes) -> None:
    assert tus.post(3, {"Upload-Metadata": key + b" YQ=="}).status in (201, 400)


@checklist("META-06")
@pytest.mark.parametrize(
    "value", ["a\r\nSet-Cookie: a=b", "a\nb", "a\0b", 'a"b', "a\\b", "../../etc/passwd", "\u2028", "a;b=c"]
)
def test_values_with_control_characters_never_split_a_header(tus: TusClient, value: str) -> None:
    answer = tus.post(3, {"Upload-Metadata": f"filename {encode(value)},filetype {encode(value)}"})
    assert answer.status in (201, 400)
    if answer.status == 400:
        return
    url = tus.path_of(answer.location)
    tus.patch(url, 0, b"abc")
    for answer in (tus.head(url), tus.request("GET", url, is_checked=False)):
        assert answer.header("Set-Cookie") is None
        assert all("Set-Cookie" not in one and "\r" not in one and "\n" not in one for _, one in answer.headers)
    assert tus.stored_bytes(url) == b"abc"


@checklist("META-07")
def test_metadata_on_two_lines_counts_whole_or_is_refused(tus: TusClient) -> None:
    answer = tus.post(3, {"Upload-Metadata": [f"a {encode('1')}", f"b {encode('2')}"]})
    assert answer.status in (201, 400)
    if answer.status == 201:
        assert parse(tus.head(tus.path_of(answer.location)).header("Upload-Metadata")) == {"a": b"1", "b": b"2"}
