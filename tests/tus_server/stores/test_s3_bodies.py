"""Parts as boto3 sends them: whole, summed where it computes sums, and whole again after a refusal."""

from __future__ import annotations

import os
import threading
import zlib
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import pytest
from botocore.config import Config

from tus_server.stores.buffers import FileBuffer, MemoryBuffer, PartBuffer, ReceiveBudget

CONTENT = os.urandom(2**20 + 5)


class _Nobody:
    def flush(self) -> bool:
        return False


class _Service(ThreadingHTTPServer):
    """Answers 503 to the first request and 200 to the others; keeps what came."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[bytes] = []
        self.sums: list[str | None] = []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Service

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def do_PUT(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.sums.append(self.headers["x-amz-checksum-crc32"])
        self.send_response(200 if len(self.server.bodies) > 1 else 503)
        self.send_header("ETag", '"etag"')
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def service() -> Iterator[_Service]:
    with _Service() as service:
        thread = threading.Thread(target=service.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield service
        service.shutdown()
        thread.join()


@pytest.mark.parametrize("sums", ["when_required", "when_supported"])
@pytest.mark.parametrize("place", ["memory", "file"])
def test_a_refused_part_is_sent_again_from_its_first_byte(service: _Service, place: str, sums: str) -> None:
    buffer: PartBuffer = MemoryBuffer(ReceiveBudget(), _Nobody(), len(CONTENT)) if place == "memory" else FileBuffer(0)
    buffer.append(memoryview(CONTENT))
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{service.server_port}",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        region_name="us-east-1",
        config=Config(request_checksum_calculation=sums, retries={"mode": "standard"}, s3={"addressing_style": "path"}),
    )
    try:
        client.upload_part(Bucket="bucket", Key="key", UploadId="id", PartNumber=1, Body=buffer.body())
    finally:
        client.close()
        buffer.close()
    assert service.bodies == [CONTENT, CONTENT]
    wanted = b64encode(zlib.crc32(CONTENT).to_bytes(4)).decode() if sums == "when_supported" else None
    assert service.sums == [wanted, wanted]
