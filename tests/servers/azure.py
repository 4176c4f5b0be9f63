"""Clients for Azurite that tests look through: they count calls, fail when told to, and know what was staged.

Uncommitted blocks cannot be read from the service, so what a test wants to compare is remembered here.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from azure.core.exceptions import ServiceResponseError
from azure.storage.blob import BlobServiceClient, ContainerClient, LinearRetry

from tests.servers.azurite import AzuriteServer
from tus_server.testing.faults import When
from tus_server.uploads import generate_upload_id


def lost_answer() -> Exception:
    """Return what the SDK raises when a connection breaks."""
    return ServiceResponseError("the test cut the connection")


def make_container(server: AzuriteServer) -> ContainerClient:
    """Create a container of a test's own; failed calls are not tried again."""
    options: dict[str, Any] = {"retry_policy": LinearRetry(retry_total=0)}
    service = BlobServiceClient.from_connection_string(server.connection_string, **options)
    name = "c" + generate_upload_id().lower().replace("_", "").replace("-", "")[:20]
    return service.create_container(name)


class WatchedContainer:
    """A container whose calls are counted by name, and may fail.

    Attributes:
        around: Makes each call, given its name and what makes it; to let some fail.
        calls: How often each method was called.
        data: The content of each staged block, by blob and block id.
    """

    def __init__(self, container: Any, around: Callable[..., Any] = lambda name, call: call()) -> None:
        self.container = container
        self.around = around
        self.calls: Counter[str] = Counter()
        self.data: dict[tuple[str, str], bytes] = {}
        self._lock = threading.Lock()
        self._armed: tuple[str, When] | None = None

    def behind(self, around: Callable[..., Any]) -> WatchedContainer:
        """Return the same container with other calls around it, as another process has it."""
        other = WatchedContainer(self.container, around)
        other.data = self.data
        return other

    def __getattr__(self, name: str) -> Any:
        return getattr(self.container, name)

    def get_blob_client(self, blob: str) -> WatchedBlob:
        return WatchedBlob(self, self.container.get_blob_client(blob), blob)

    def arm(self, when: When, name: str) -> None:
        """Let the next call of that name fail."""
        self._armed = name, when

    def watch(self, name: str, call: Callable[[], Any]) -> Any:
        with self._lock:
            self.calls[name] += 1
            when = None
            if self._armed is not None and self._armed[0] == name:
                when, self._armed = self._armed[1], None
        if when == "before":
            raise lost_answer()
        answer = self.around(name, call)
        if when == "after":
            raise lost_answer()
        return answer


class WatchedBlob:
    """A blob of ``WatchedContainer``."""

    def __init__(self, container: WatchedContainer, blob: Any, name: str) -> None:
        self._container, self._blob, self._name = container, blob, name

    @property
    def url(self) -> str:
        return str(self._blob.url)

    def stage_block(self, block_id: str, data: Any, **options: Any) -> Any:
        content = bytes(data) if isinstance(data, bytes | bytearray | memoryview) else None
        if content is None:
            content = data.read()
            data.seek(0)

        def stage() -> Any:
            answer = self._blob.stage_block(block_id, data, **options)
            self._container.data[self._name, block_id] = content
            return answer

        return self._container.watch("stage_block", stage)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._blob, name)
        return lambda *args, **options: self._container.watch(name, lambda: method(*args, **options))
