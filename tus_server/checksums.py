"""The extension "checksum": the header ``Upload-Checksum``, and digests that grow while a body arrives.

Byte shuffling only; ``protocol.verifying`` decides what is kept. The header is hostile like any other: everything that
can be refused without the body is refused here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from tus_server.errors import BadRequest


class Digest(Protocol):
    """A digest that grows, as ``hashlib`` has them."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Add bytes."""

    def digest(self) -> bytes:
        """Return the digest of all bytes so far."""


class Crc32:
    """CRC-32 (ISO 3309, as in gzip); its digest is 4 bytes, the most significant first."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes | memoryview, /) -> None:
        """See ``Digest``."""
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        """See ``Digest``."""
        return self._value.to_bytes(4, "big")


#: None of them protects against anybody who means harm; they find what the network broke.
_DIGESTS: Final[dict[str, Callable[[], Digest]]] = {
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "sha256": lambda: hashlib.sha256(usedforsecurity=False),
    "md5": lambda: hashlib.md5(usedforsecurity=False),
    "crc32": Crc32,
}
#: The names of the algorithms, as in ``Tus-Checksum-Algorithm``.
ALGORITHMS: Final = tuple(_DIGESTS)


def new_digest(algorithm: str) -> Digest:
    """Return a digest of no bytes yet; the algorithm is one of ``ALGORITHMS``."""
    return _DIGESTS[algorithm]()


@dataclass(frozen=True)
class Checksum:
    """The digest that a body must have: one of ``ALGORITHMS``, and as many bytes as it gives."""

    algorithm: str
    digest: bytes


def parse_checksum(text: str) -> Checksum:
    """Parse ``Upload-Checksum``: the name of an algorithm, one blank, the digest as Base64.

    Raises:
        BadRequest: The algorithm is none of ours, or the digest is missing, no Base64, or of a wrong length.
    """
    algorithm, _, encoded = text.partition(" ")
    if algorithm not in _DIGESTS:
        listed = ", ".join(ALGORITHMS)
        raise BadRequest(f"The algorithm of Upload-Checksum must be one of {listed}.", code="unsupported_checksum")
    try:
        digest = base64.b64decode(encoded.encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest("The digest of Upload-Checksum is not Base64.", code="invalid_checksum") from None
    size = len(new_digest(algorithm).digest())
    if len(digest) != size:
        raise BadRequest(
            f"The digest of Upload-Checksum has {len(digest)} bytes; {algorithm} gives {size}.", code="invalid_checksum"
        )
    return Checksum(algorithm, digest)


def build_checksum(algorithm: str, data: bytes) -> str:
    """Build ``Upload-Checksum`` for a body; the algorithm is one of ``ALGORITHMS``."""
    digest = new_digest(algorithm)
    digest.update(data)
    return f"{algorithm} {base64.b64encode(digest.digest()).decode('ascii')}"
