"""What is posted for a file field, and names of files: realistic, synthetic, pathological."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_uploads.values import (
    AsyncFileInputData,
    MalformedValue,
    clean_filename,
    parse_value,
    reduce_name,
    truncate_name,
)

KEY = "async-temp-files/2026/11/22/x-a.txt"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (json.dumps({"key": KEY, "name": "a.txt"}), AsyncFileInputData(KEY, "a.txt")),
        (json.dumps({"key": KEY, "width": 3, "height": 2}), AsyncFileInputData(KEY, None, 3, 2)),
        ({"key": KEY, "url": "https://x", "size": 3}, AsyncFileInputData(KEY)),
        (KEY, AsyncFileInputData(KEY)),
        (f"  {KEY}\n", AsyncFileInputData(KEY)),
        (json.dumps(KEY), AsyncFileInputData(KEY)),
        ("https://example.org/uploads/tus/abc", AsyncFileInputData("https://example.org/uploads/tus/abc")),
        (AsyncFileInputData(KEY), AsyncFileInputData(KEY)),
        ({"error": "no space"}, AsyncFileInputData("", error="no space")),
        ({"key": KEY, "width": 12.0, "height": "x"}, AsyncFileInputData(KEY, None, 12, None)),
        ({"key": KEY, "width": True, "height": -1}, AsyncFileInputData(KEY)),
        ({"key": KEY, "width": float("nan"), "height": float("inf")}, AsyncFileInputData(KEY)),
        ({"key": KEY, "width": 10**30, "height": 0}, AsyncFileInputData(KEY)),
        ({"key": KEY, "name": None, "error": ""}, AsyncFileInputData(KEY)),
    ],
)
def test_a_value_is_parsed(raw: object, expected: AsyncFileInputData) -> None:
    assert parse_value(raw) == expected


@pytest.mark.parametrize("raw", [None, "", "  ", "null", "{}", '""'])
def test_nothing_is_nothing(raw: object) -> None:
    assert parse_value(raw) is None


@pytest.mark.parametrize(
    "raw",
    [
        '{"key": ',
        "[1]",
        '{"key": 5}',
        '{"key": ""}',
        '{"name": "a.txt"}',
        '{"key": "a\\u0000b"}',
        "a\0b",
        "\ud800",
        '{"key": "\\ud800"}',
        '{"key": "", "error": "\\udfff"}',
        "x" * 20_000,
        '{"key": "%s"}' % ("x" * 3000),
        "[" * 10_000,
        {"key": KEY, "name": 5},
        {"key": KEY, "error": ["x"]},
        5,
        b"bytes",
        True,
    ],
)
def test_malformed_values_are_told_apart(raw: object) -> None:
    with pytest.raises(MalformedValue, match="Bad input for file field"):
        parse_value(raw)


@given(
    st.one_of(st.text(), st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(json.dumps))
)
def test_no_text_breaks_the_parser(raw: str) -> None:
    try:
        parse_value(raw)
    except MalformedValue:
        return


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("report.pdf", "report.pdf"),
        ("отчёт за год.pdf", "отчёт за год.pdf"),
        ("👩‍👩‍👧 семья.png", "👩‍👩‍👧 семья.png"),
        ("دليل.docx", "دليل.docx"),
        ("C:\\Users\\me\\a.txt", "a.txt"),
        ("../../etc/passwd", "passwd"),
        ("/absolute/a.txt", "a.txt"),
        ("a\0b\r\n.txt", "ab.txt"),
        (" a.txt ", "a.txt"),
        ("a\ud800.txt", "a.txt"),
        (".htaccess", ".htaccess"),
        ("x" * 255, "x" * 255),
    ],
)
def test_a_true_name_is_cleaned(filename: str, expected: str) -> None:
    assert clean_filename(filename) == expected


@pytest.mark.parametrize("filename", ["", " ", ".", "..", "a/", "a/..", "\0", "\n\t", "x" * 256])
def test_an_unusable_name_is_refused(filename: str) -> None:
    with pytest.raises(ValueError, match="name"):
        clean_filename(filename)


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("report.pdf", "report.pdf"),
        ("my file (1).tar.gz", "my_file_1_.tar.gz".replace("_.tar", "_.tar")),
        ("Übergröße.PNG", "Ubergro_e.PNG"),
        ("отчёт.pdf", "file.pdf"),
        ("👩.png", "file.png"),
        (".htaccess", "htaccess"),
        ("..", "file"),
        ("a/b\\c.txt", "c.txt"),
        ("noextension", "noextension"),
        ("a." + "x" * 50, "a." + "x" * 20),
    ],
)
def test_a_name_is_reduced_for_a_key(filename: str, expected: str) -> None:
    assert reduce_name(filename) == expected


@given(st.text())
def test_a_reduced_name_is_plain_ascii(filename: str) -> None:
    name = reduce_name(filename)
    assert name
    assert name.isascii()
    assert set(name) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
    assert not name.startswith(".")


@pytest.mark.parametrize(
    ("name", "length", "expected"),
    [("a.txt", 9, "a.txt"), ("abcdef.txt", 7, "abc.txt"), ("abcdef", 3, "abc"), (".abcdef", 3, ".ab")],
)
def test_a_name_is_truncated_before_its_extension(name: str, length: int, expected: str) -> None:
    assert truncate_name(name, length) == expected


def test_a_name_that_cannot_be_truncated_is_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        truncate_name("abc.txt", 4)
