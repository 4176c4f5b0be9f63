"""Hostile headers: what is taken, what is refused, and that building and parsing are inverses."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tus_server.errors import BadRequest, InvalidMetadata
from tus_server.headers import (
    Headers,
    build_concat,
    build_http_date,
    build_metadata,
    is_offset_media_type,
    parse_concat,
    parse_http_date,
    parse_length,
    parse_metadata,
    parse_offset,
)

NOT_NUMBERS = ["", "-1", "+0", "0_0", " 1", "1 ", "1.0", "0x10", "1e3", "３", "٣", "3,7", "3,3", "NaN", "9" * 5000]


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("11", 11), ("007", 7), ("9" * 30, int("9" * 30))])
def test_an_offset_is_decimal_digits_however_large(text: str, value: int) -> None:
    assert parse_offset(text) == value


@pytest.mark.parametrize("text", [None, *NOT_NUMBERS])
def test_anything_else_is_no_offset(text: str | None) -> None:
    with pytest.raises(BadRequest):
        parse_offset(text)


@pytest.mark.parametrize("text", [*NOT_NUMBERS, str(2**63)])
def test_a_length_must_also_fit_a_file(text: str) -> None:
    with pytest.raises(BadRequest):
        parse_length(text)
    assert parse_length(str(2**63 - 1)) == 2**63 - 1


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("filename aGVsbG8udHh0", {"filename": b"hello.txt"}),
        ("filename aGVsbG8udHh0,filetype dGV4dC9wbGFpbg==", {"filename": b"hello.txt", "filetype": b"text/plain"}),
        ("a YQ==, b Yg==", {"a": b"a", "b": b"b"}),
        ("alone", {"alone": b""}),
        ("alone ,b Yg==", {"alone": b"", "b": b"b"}),
        ("bin /wD+", {"bin": b"\xff\x00\xfe"}),
        ("evil " + base64.b64encode(b"a\r\nSet-Cookie: x").decode(), {"evil": b"a\r\nSet-Cookie: x"}),
    ],
)
def test_metadata_is_parsed(text: str, values: dict[str, bytes]) -> None:
    assert parse_metadata(text) == values


@pytest.mark.parametrize(
    "text",
    [
        ",",
        "a YQ==,",
        ",a YQ==",
        "a  YQ==",
        "a YQ== ",
        "a !!!!",
        "a YQ=",
        "a YQ==,a Yg==",
        "ключ YQ==",
        "a YQ\n==",
        "\x00 YQ==",
    ],
)
def test_malformed_metadata_is_refused(text: str) -> None:
    with pytest.raises(InvalidMetadata):
        parse_metadata(text)


@given(st.text())
def test_no_metadata_makes_the_parser_fail_in_another_way(text: str) -> None:
    try:
        values = parse_metadata(text)
    except InvalidMetadata:
        return
    assert parse_metadata(build_metadata(values)) == values


keys = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters=","), min_size=1)


@given(st.dictionaries(keys, st.binary()))
def test_built_metadata_is_parsed_back(values: dict[str, bytes]) -> None:
    assert parse_metadata(build_metadata(values)) == values


def test_text_is_built_as_utf_8() -> None:
    assert parse_metadata(build_metadata({"filename": "отчёт 📷.pdf"})) == {"filename": "отчёт 📷.pdf".encode()}


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("partial", ()),
        ("final;/files/a /files/b", ("/files/a", "/files/b")),
        ("final;https://example.com/files/a", ("https://example.com/files/a",)),
        ("final; a  b ", ("a", "b")),
        ("final;a;b", ("a;b",)),
    ],
)
def test_a_concatenation_is_parsed(text: str, urls: tuple[str, ...]) -> None:
    assert parse_concat(text) == urls
    assert parse_concat(build_concat(urls)) == urls


@pytest.mark.parametrize(
    "text",
    [
        *("", "partial;", "PARTIAL", " partial", "final", "final;", "final;  ", "Final;a", "final a", "final:a", "a"),
        *("partial,partial", "partial,final;a", "final;a\tb", "final;a\nb", "final;\u0435", "final;a\x7f", "final;a\0"),
    ],
)
def test_a_malformed_concatenation_is_refused(text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_concat(text)
    assert caught.value.code == "invalid_concat"


def test_header_names_have_no_case_and_repeated_lines_are_joined() -> None:
    headers = Headers([("Upload-Offset", " 3"), ("upload-offset", "7"), ("X", "")])
    assert headers.get("UPLOAD-OFFSET") == "3,7"
    assert "x" in headers
    assert headers.get("y") is None


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("application/offset+octet-stream", True),
        ("Application/Offset+Octet-Stream", True),
        ("application/offset+octet-stream; charset=utf-8", False),
        ("application/octet-stream", False),
        ("", False),
        (None, False),
    ],
)
def test_only_the_media_type_of_tus_is_data(text: str | None, result: bool) -> None:
    assert is_offset_media_type(text) is result


def test_dates_are_in_gmt_and_english_and_parsed_back() -> None:
    moment = datetime(2026, 3, 1, 12, 0, 5, 999, tzinfo=timezone(timedelta(hours=2)))
    assert build_http_date(moment) == "Sun, 01 Mar 2026 10:00:05 GMT"
    assert parse_http_date("Sun, 01 Mar 2026 10:00:05 GMT") == datetime(2026, 3, 1, 10, 0, 5, tzinfo=UTC)
    with pytest.raises(BadRequest):
        parse_http_date("yesterday")
