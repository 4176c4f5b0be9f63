"""What a file is: by content first, by name where the content leaves it open."""

import pytest

from async_uploads.sniffing import UNKNOWN, detect, guess_type, is_allowed, normalise

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20
JPEG = b"\xff\xd8\xff\xe0" + b"\0" * 20
ZIP = b"PK\x03\x04" + b"\0" * 20
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 20
MP4 = b"\0\0\0\x18ftypisom\0\0\0\0isommp42"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


@pytest.mark.parametrize(
    ("head", "name", "expected"),
    [
        # realistic
        (PNG, "a.png", "image/png"),
        (JPEG, "a.jpg", "image/jpeg"),
        (b"GIF89a" + b"\0" * 9, "a.gif", "image/gif"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "a.webp", "image/webp"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "a.wav", "audio/wav"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", "a.avif", "image/avif"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a.heic", "image/heic"),
        (b"%PDF-1.7\n%\xe2\xe3", "a.pdf", "application/pdf"),
        (MP4, "a.mp4", "video/mp4"),
        (MP4, "a.m4a", "audio/mp4"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0", "a.mov", "video/quicktime"),
        (b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\x82\x84webm", "a.webm", "video/webm"),
        (b"\x1aE\xdf\xa3\xa3B\x86\x81\x01B\x82\x88matroska", "a.mkv", "video/x-matroska"),
        (b"ID3\x04\0\0\0", "a.mp3", "audio/mpeg"),
        (b"\xff\xfb\x90\x64\0\0", "a.mp3", "audio/mpeg"),
        (b"OggS\0\x02", "a.ogv", "video/ogg"),
        (ZIP, "a.zip", "application/zip"),
        (ZIP, "letter.docx", DOCX),
        (OLE, "a.doc", "application/msword"),
        (b"hello\n", "a.txt", "text/plain"),
        (b"a,b\n1,2\n", "a.csv", "text/csv"),
        (b'{"a": 1}', "a.json", "application/json"),
        (b"<?xml version='1.0'?><svg xmlns='x'/>", "a.svg", "image/svg+xml"),
        (b"<?xml version='1.0'?><data/>", "a.xml", "application/xml"),
        # synthetic
        (b"", "a.png", "image/png"),
        (b"", "a", UNKNOWN),
        (b"\0\x01\x02", "a", UNKNOWN),
        (b"\0\x01\x02", "a.stl", "model/stl"),
        ("Привет".encode(), "a.txt", "text/plain"),
        (b"\xff\xfeh\0i\0", "a.txt", "text/plain"),
        # pathological: the name lies
        (b"<html><script>alert(1)</script>", "holiday.png", "text/html"),
        (b"\xef\xbb\xbf  <!DOCTYPE html>", "holiday.png", "text/html"),
        (b"<!-- x --><script>", "a.jpg", "text/html"),
        (b"<svg onload=alert(1)>", "a.png", "image/svg+xml"),
        (PNG, "a.jpg", "image/png"),
        (ZIP, "a.png", "application/zip"),
        (b"MZ\x90\0", "a.pdf", "application/x-msdownload"),
        (b"\0\x01\x02", "a.png", UNKNOWN),
        (b"\0\x01\x02", "a.txt", UNKNOWN),
        (PNG, "a.html", "image/png"),
        (b"text", "a.png", "text/plain"),
    ],
)
def test_the_content_decides_and_the_name_refines(head: bytes, name: str, expected: str) -> None:
    assert detect(head, name) == expected


@pytest.mark.parametrize(
    ("restrictions", "name", "media_type", "allowed"),
    [
        ([], "a.exe", "application/x-msdownload", True),
        (["image/*"], "a.png", None, True),
        (["image/*"], "a.PNG", None, True),
        (["image/*"], "a.pdf", None, False),
        (["image/*"], "a", None, False),
        (["image/*"], "a.png", "image/png", True),
        (["image/*"], "a.png", "text/html", False),
        (["image/png"], "a.png", "image/jpeg", False),
        (["image/jpg"], "a.jpg", "image/jpeg", True),
        ([".pdf"], "a.PDF", "application/pdf", True),
        ([".pdf"], "a.pdf", "text/html", False),
        ([".pdf"], "a.pdf", None, True),
        ([".jpg", ".png"], "a.jpg", "image/png", True),
        (["docx"], "a.docx", DOCX, True),
        (["docx"], "adocx", None, False),
        ([".xyzzy"], "a.xyzzy", UNKNOWN, True),
        (["image/*", ".pdf"], "a.pdf", "application/pdf", True),
        (["*/*"], "a.png", "image/png", True),
        (["IMAGE/PNG"], "a.png", "image/png", True),
    ],
)
def test_restrictions_are_types_patterns_or_suffixes(
    restrictions: list[str], name: str, media_type: str | None, allowed: bool
) -> None:
    assert is_allowed(restrictions, name, media_type) is allowed


def test_types_have_one_name() -> None:
    assert normalise("Image/JPG; charset=x") == "image/jpeg"
    assert guess_type("a.JPEG") == "image/jpeg"
    assert guess_type("archive.tar.gz") == "application/gzip"
    assert guess_type("noname") is None
