"""What a file is, by its first bytes and its name, and whether a field takes it.

No Pillow, no database, no I/O: the caller brings the first ``HEAD_SIZE`` bytes. Rules for editors:

* The content wins over the name. A name may only refine what the content leaves open (a ``.docx`` is a zip archive).
* A type that the content would have shown if it were true is refused when the content does not show it.
* The client's ``Content-Type`` is never looked at once there is content.
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Iterable

#: How many bytes ``detect`` wants to see.
HEAD_SIZE = 4096

UNKNOWN = "application/octet-stream"

# Names that Python's table lacks or that differ between systems.
_BY_SUFFIX = {
    ".avif": "image/avif", ".heic": "image/heic", ".heif": "image/heif", ".webp": "image/webp", ".jxl": "image/jxl",
    ".webm": "video/webm", ".mkv": "video/x-matroska", ".flac": "audio/flac", ".m4a": "audio/mp4", ".m4v": "video/mp4",
    ".ogg": "audio/ogg", ".opus": "audio/ogg", ".ogv": "video/ogg", ".wav": "audio/wav", ".mp3": "audio/mpeg",
    ".7z": "application/x-7z-compressed", ".rar": "application/vnd.rar", ".gz": "application/gzip",
    ".tgz": "application/gzip", ".bz2": "application/x-bzip2", ".xz": "application/x-xz", ".zip": "application/zip",
    ".csv": "text/csv", ".md": "text/markdown", ".json": "application/json", ".xml": "application/xml",
    ".svg": "image/svg+xml", ".js": "text/javascript", ".mjs": "text/javascript", ".html": "text/html",
    ".htm": "text/html", ".xhtml": "application/xhtml+xml", ".ico": "image/x-icon", ".bmp": "image/bmp",
    ".tif": "image/tiff", ".tiff": "image/tiff", ".psd": "image/vnd.adobe.photoshop",
    ".exe": "application/x-msdownload",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".epub": "application/epub+zip", ".yaml": "application/yaml", ".yml": "application/yaml",
}  # fmt: skip

_ALIASES = {
    "image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/x-png": "image/png", "image/x-ms-bmp": "image/bmp",
    "image/vnd.microsoft.icon": "image/x-icon", "audio/mp3": "audio/mpeg", "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav", "audio/vnd.wave": "audio/wav", "audio/x-m4a": "audio/mp4", "audio/x-flac": "audio/flac",
    "audio/x-aac": "audio/aac",
    "video/x-m4v": "video/mp4", "application/x-pdf": "application/pdf", "text/xml": "application/xml",
    "application/javascript": "text/javascript", "application/x-javascript": "text/javascript",
    "application/x-zip-compressed": "application/zip", "application/x-gzip": "application/gzip",
    "application/x-rar-compressed": "application/vnd.rar", "application/x-rar": "application/vnd.rar",
    "video/matroska": "video/x-matroska", "application/x-yaml": "application/yaml",
}  # fmt: skip

# Offset, magic bytes, type. Longer and rarer first.
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (0, b"II*\x00", "image/tiff"),
    (0, b"MM\x00*", "image/tiff"),
    (0, b"\x00\x00\x01\x00", "image/x-icon"),
    (0, b"8BPS", "image/vnd.adobe.photoshop"),
    (0, b"\x00\x00\x00\x0cJXL \r\n\x87\n", "image/jxl"),
    (0, b"\xff\x0a", "image/jxl"),
    (0, b"%PDF-", "application/pdf"),
    (0, b"fLaC", "audio/flac"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"OggS", "audio/ogg"),
    (0, b"PK\x03\x04", "application/zip"),
    (0, b"PK\x05\x06", "application/zip"),
    (0, b"\x1f\x8b", "application/gzip"),
    (0, b"BZh", "application/x-bzip2"),
    (0, b"\xfd7zXZ\x00", "application/x-xz"),
    (0, b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (0, b"Rar!\x1a\x07", "application/vnd.rar"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
    (0, b"MZ", "application/x-msdownload"),
    (0, b"\x7fELF", "application/x-executable"),
    (257, b"ustar", "application/x-tar"),
)

_FTYP = {
    b"avif": "image/avif", b"avis": "image/avif", b"heic": "image/heic", b"heix": "image/heic", b"hevc": "image/heic",
    b"mif1": "image/heif", b"msf1": "image/heif", b"qt  ": "video/quicktime", b"M4A ": "audio/mp4",
    b"M4B ": "audio/mp4",
    b"3gp4": "video/3gpp", b"3gp5": "video/3gpp", b"crx ": "image/x-canon-cr3",
}  # fmt: skip

# What a name may refine a content into. A pattern ends in "*" or is exact.
_REFINES: dict[str, tuple[str, ...]] = {
    "application/zip": (
        "application/vnd.*", "application/epub+zip", "application/java-archive", "application/x-*", "model/*",
    ),
    "application/gzip": ("application/x-*", "application/vnd.*"),
    "application/x-ole-storage": ("application/msword", "application/vnd.ms-*", "application/vnd.visio",
                                  "application/x-msi"),
    "application/x-msdownload": ("application/x-dosexec", "application/x-msdos-program", "application/vnd.microsoft.*"),
    "application/x-executable": ("application/x-sharedlib", "application/x-object"),
    "application/pdf": ("application/illustrator", "application/vnd.adobe.illustrator", "application/postscript"),
    "audio/ogg": ("video/ogg", "application/ogg", "audio/opus", "audio/x-*"),
    "video/mp4": ("audio/mp4", "video/quicktime", "video/3gpp", "video/3gpp2", "application/mp4", "audio/aac"),
    "audio/mp4": ("video/mp4",),
    "video/quicktime": ("video/mp4",),
    "video/3gpp": ("video/mp4", "audio/3gpp", "video/3gpp2"),
    "image/heif": ("image/heic", "image/avif"),
    "image/heic": ("image/heif",),
    "image/tiff": ("image/x-*", "image/vnd.*"),
    "video/x-matroska": ("video/webm", "audio/webm", "audio/x-matroska", "video/matroska-3d"),
    "video/webm": ("audio/webm", "video/x-matroska"),
    "application/xml": ("text/*", "application/*+xml", "application/xml-dtd", "application/x-*", "model/*"),
    "text/html": ("application/xhtml+xml", "text/*"),
    "text/plain": ("text/*", "application/json", "application/*+json", "application/xml", "application/*+xml",
                   "application/yaml", "application/toml", "application/rtf", "application/sql", "application/x-*",
                   "application/postscript", "application/ecmascript", "application/pgp-*", "message/*", "model/*",
                   "image/svg+xml", "application/vnd.*"),
}  # fmt: skip

#: Types that a browser runs code from when it shows them; served as attachments only.
ACTIVE_TYPES = frozenset(
    {"text/html", "application/xhtml+xml", "image/svg+xml", "application/xml", "text/xml", "text/javascript",
     "application/javascript", "text/css", "application/x-shockwave-flash", "text/xsl", "application/mathml+xml"}
)  # fmt: skip

#: Types that a browser may show in the page's own window: no code, no surprises.
INLINE_TYPES = frozenset(
    {"image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp", "image/x-icon", "video/mp4",
     "video/webm", "video/ogg", "audio/mpeg", "audio/ogg", "audio/wav", "audio/mp4", "audio/flac", "audio/webm",
     "application/pdf", "text/plain"}
)  # fmt: skip

_TEXT_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_HTML = re.compile(rb"<(!doctype\s+html|html|head|body|script|iframe|a\s|h1|div|style|title|table|br|p[\s>])", re.I)
_SVG = re.compile(rb"<svg[\s>]", re.I)
_DETECTABLE = frozenset({kind for _, _, kind in _MAGIC} | set(_FTYP.values())) | {
    "image/webp", "image/bmp", "audio/wav", "video/x-msvideo", "video/webm", "video/x-matroska", "video/mp4",
    "image/svg+xml", "audio/aac",
}  # fmt: skip


def _matches(pattern: str, media_type: str) -> bool:
    """Say whether a type matches a pattern with at most one ``*``."""
    start, star, end = pattern.partition("*")
    return media_type == pattern if not star else media_type.startswith(start) and media_type.endswith(end)


def normalise(media_type: str) -> str:
    """Return a media type in lower case, without parameters, under its usual name."""
    bare = media_type.partition(";")[0].strip().lower()
    return _ALIASES.get(bare, bare)


def guess_type(filename: str) -> str | None:
    """Return the type that a name promises; ``None`` when it promises nothing."""
    lowered = filename.lower()
    suffix = "." + lowered.rpartition(".")[2] if "." in lowered else ""
    if suffix in _BY_SUFFIX:
        return _BY_SUFFIX[suffix]
    kind, encoding = mimetypes.guess_type("name" + suffix, strict=False)
    return normalise(kind) if kind and not encoding else None


def sniff(head: bytes) -> str:
    """Return what the first bytes show; ``application/octet-stream`` when they show nothing known."""
    for offset, magic, kind in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return kind
    if head[4:8] == b"ftyp":
        brands = [head[8:12], *(head[index : index + 4] for index in range(16, 40, 4))]
        return next((_FTYP[brand] for brand in brands if brand in _FTYP), "video/mp4")
    if head[:4] == b"RIFF":
        kinds = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}
        return kinds.get(head[8:12], UNKNOWN)
    if head[:4] == b"\x1aE\xdf\xa3":
        return "video/webm" if b"webm" in head[:64] else "video/x-matroska"
    if head[:2] == b"BM" and head[6:10] == b"\0\0\0\0":
        return "image/bmp"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[:2] not in (b"\xff\xfe", b"\xff\xff"):
        return "audio/aac" if head[1] & 0x06 == 0 else "audio/mpeg"
    return _sniff_text(head)


def _sniff_text(head: bytes) -> str:
    """Tell text, and the text that browsers would run, from bytes that are no text."""
    text = head
    for mark, encoding in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        if head.startswith(mark):
            text = head[2:].decode(encoding, "ignore").encode()
    if _TEXT_CONTROL.search(text):
        return UNKNOWN
    stripped = text.removeprefix(b"\xef\xbb\xbf").lstrip()
    if stripped.startswith(b"<"):
        if _SVG.search(stripped[:1024]):
            return "image/svg+xml"
        if stripped.startswith(b"<?xml") and not re.search(rb"<html[\s>]", stripped[:1024], re.I):
            return "application/xml"
        if _HTML.match(stripped) or _HTML.search(re.sub(rb"<!--.*?-->", b"", stripped[:1024], flags=re.S)):
            return "text/html"
    return "text/plain"


def detect(head: bytes, filename: str) -> str:
    """Return a file's type from its first bytes, refined by its name where the content leaves it open.

    Args:
        head: The first ``HEAD_SIZE`` bytes; fewer when the file is shorter.
        filename: Its name as the user knows it.
    """
    promised = guess_type(filename)
    if not head:
        return promised or UNKNOWN
    shown = sniff(head)
    if promised is None or promised == shown:
        return shown
    if shown == UNKNOWN:
        return UNKNOWN if promised in _DETECTABLE or promised.startswith("text/") else promised
    if promised in _DETECTABLE and promised not in ("video/mp4", "audio/mp4", "video/quicktime", "video/webm",
                                                     "video/x-matroska", "video/3gpp", "image/heic", "image/heif",
                                                     "image/avif", "audio/ogg"):  # fmt: skip
        return shown
    return promised if any(_matches(pattern, promised) for pattern in _REFINES.get(shown, ())) else shown


def is_allowed(restrictions: Iterable[str], filename: str, media_type: str | None) -> bool:
    """Say whether a field with these restrictions takes a file.

    Args:
        restrictions: ``image/*``, exact types, or ``.ext``; none of them allows everything.
        filename: The file's name as the user knows it.
        media_type: Its type by ``detect``; ``None`` before there is content: then the name decides.
    """
    wanted = [text.strip().lower() for text in restrictions if text.strip()]
    if not wanted:
        return True
    kind = normalise(media_type) if media_type else guess_type(filename)
    types = [normalise(text) for text in wanted if "/" in text]
    if kind and any(pattern == "*/*" or _matches(pattern, kind) for pattern in types):
        return True
    # The reference's example has "docx" without its dot; take it for what it means.
    suffixes = ["." + text.removeprefix(".") for text in wanted if "/" not in text]
    if not filename.lower().endswith(tuple(suffixes)) if suffixes else True:
        return False
    promises = {guess_type("name" + suffix) for suffix in suffixes}
    return media_type is None or None in promises or kind in promises or kind == guess_type(filename)
