"""Signing with a managed identity: Azurite gives the key over HTTPS; only the service itself can check a signature.

Azurite 3.35 knows older signatures of this kind than the SDK makes.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from azure.core.credentials import AccessToken
from azure.storage.blob import BlobServiceClient
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from async_uploads.storage.azure import AzureAsyncUploadStorage
from tests.servers.azurite import AzuriteServer
from tests.skips import need

IDENTITY, TENANT = "23657296-5cd5-45b0-a809-d972a7f4dfe1", "ab1f708d-50f6-404c-a006-d71b2ac7a606"


class Identity:
    """A managed identity whose token nobody has signed."""

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        now = int(time.time())
        claims = {"aud": "https://storage.azure.com", "iss": f"https://sts.windows.net/{TENANT}/", "oid": IDENTITY}
        claims |= {"tid": TENANT, "iat": now - 60, "nbf": now - 60, "exp": now + 3600, "ver": "1.0", "appid": "x"}
        parts = [json.dumps(each).encode() for each in ({"alg": "RS256", "typ": "JWT"}, claims)]
        token = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (*parts, b"unsigned"))
        return AccessToken(token.decode(), now + 3600)


pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key, in files."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    now = datetime.now(UTC)
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    made = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    directory = tmp_path_factory.mktemp("certificate")
    pem = serialization.Encoding.PEM
    (directory / "certificate.pem").write_bytes(made.public_bytes(pem))
    secret = key.private_bytes(pem, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    (directory / "key.pem").write_bytes(secret)
    return directory / "certificate.pem", directory / "key.pem"


@pytest.fixture(scope="module")
def server(certificate: tuple[Path, Path]) -> Iterator[AzuriteServer]:
    """Azurite over HTTPS, where tokens are taken."""
    with AzuriteServer(need("azurite"), certificate=certificate[0], key=certificate[1]) as running:
        yield running


def test_one_key_of_the_identity_signs_for_days(server: AzuriteServer, certificate: tuple[Path, Path]) -> None:
    asked: list[str] = []
    options: dict[str, Any] = {
        "connection_verify": str(certificate[0]),
        "raw_request_hook": lambda request: asked.append(request.http_request.url),
    }
    storage = AzureAsyncUploadStorage(
        account_name="tests", azure_container="files", token_credential=Identity(), client_options=options
    )
    with BlobServiceClient(server.account_url, credential=Identity(), **options) as client:
        client.create_container("files")
        storage._service_client = client
        asked.clear()
        for name, permission in (("a.txt", "cw"), ("b.txt", "r")):
            query = parse_qs(urlsplit(storage.sign(name, permission, 60)).query)
            assert (query["skoid"], query["sktid"], query["sp"]) == ([IDENTITY], [TENANT], [permission])
        assert len(asked) == 1
        assert storage.url("a.txt", expire=60).startswith(f"{server.account_url}/files/a.txt?")
        assert len(asked) == 1
        # The key lives for less than 7 days, so a longer wish gets the longest that there is.
        storage.sign("a.txt", "r", 6 * 24 * 3600)
        assert len(asked) == 1
