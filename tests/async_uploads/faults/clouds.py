"""Clouds that outlive a killed child: servers of their own, in which the default storage keeps everything.

FAULTS_CLOUD names one: ``s3-direct`` (zero copy), ``s3-copy`` (one CopyObject), ``s3-pieces`` (a multipart copy, a
piece for each byte), ``azure-direct``, ``azure-copy``. The oracle reads and empties them through clients of its own.
"""

from __future__ import annotations

import os
import urllib.request
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar
from unittest import mock

from django.core.files.storage import default_storage

#: Wraps a request, given its name.
Wrap = Callable[[str, Callable[..., Any]], Callable[..., Any]]


class Cloud(ABC):
    """A server and what lies in it.

    Attributes:
        options: Of the default storage, as in ``STORAGES``.
        sent: The requests that the storage has sent, by name: counted where they leave, not where they are broken.
    """

    backend: ClassVar[str]

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.options: dict[str, Any] = {"location": "media", "zero_copy": kind.endswith("direct")}
        self.sent: Counter[str] = Counter()

    @abstractmethod
    def prepare(self) -> None:
        """See to it, when Django is set up, that requests are counted and come one after the other."""

    @abstractmethod
    def reset(self) -> None:
        """Empty it."""

    @abstractmethod
    def read_tree(self) -> dict[str, bytes]:
        """Return every object below the storage's location, and whatever is not finished under a name of its own."""

    @abstractmethod
    @contextmanager
    def broken(self, wrap: Wrap) -> Iterator[None]:
        """Wrap each request of the storage."""

    @abstractmethod
    def fail(self) -> Exception:
        """Return what a request raises that did not come through."""

    @abstractmethod
    def be_child(self) -> None:
        """Go on in a forked process; the other one waits meanwhile."""


class Bucket(Cloud):
    """S3, by moto."""

    backend = "async_uploads.storage.s3.S3AsyncUploadStorage"

    def __init__(self, kind: str, server: Any) -> None:
        super().__init__(kind)
        keys = {"access_key": server.access_key, "secret_key": server.secret_key, "region_name": server.region}
        self.options |= {"endpoint_url": server.url, "bucket_name": "faults", **keys}
        self._server, self._client = server, server.client()
        self._contents: dict[str, bytes] = {}  # by ETag, which is a digest of them

    def prepare(self) -> None:
        from async_uploads.storage import s3_copy

        default_storage.client.meta.events.register("before-send.s3", self._count)
        s3_copy.WIDTH = 1
        if self.kind == "s3-pieces":
            s3_copy.SINGLE_LIMIT = s3_copy.SMALLEST_PIECE = 1

    def _count(self, event_name: str, **_: Any) -> None:
        self.sent["s3." + event_name.rpartition(".")[2]] += 1

    def reset(self) -> None:
        with urllib.request.urlopen(urllib.request.Request(f"{self._server.url}/moto-api/reset", method="POST")):
            self._client.create_bucket(Bucket="faults")

    def read_tree(self) -> dict[str, bytes]:
        found = {}
        for each in self._client.list_objects_v2(Bucket="faults").get("Contents", ()):
            if each["ETag"] not in self._contents:
                answer = self._client.get_object(Bucket="faults", Key=each["Key"], IfMatch=each["ETag"])
                self._contents[each["ETag"]] = answer["Body"].read()
            found[each["Key"].removeprefix("media/")] = self._contents[each["ETag"]]
        for each in self._client.list_multipart_uploads(Bucket="faults").get("Uploads", ()):
            found[f"{each['Key']} under way: {each['UploadId'][:8]}"] = b""
        return found

    @contextmanager
    def broken(self, wrap: Wrap) -> Iterator[None]:
        client = default_storage.client
        send = client._make_api_call

        def call(operation: str, parameters: dict[str, Any]) -> Any:
            return wrap(f"s3.{operation}", send)(operation, parameters)

        with mock.patch.object(client, "_make_api_call", call):
            yield

    def fail(self) -> Exception:
        from botocore.exceptions import EndpointConnectionError

        return EndpointConnectionError(endpoint_url="injected")

    def be_child(self) -> None:
        default_storage._client_pid = os.getpid()  # type: ignore[attr-defined]  # to make a client takes longer


class Container(Cloud):
    """Azure, by Azurite."""

    backend = "async_uploads.storage.azure.AzureAsyncUploadStorage"

    def __init__(self, kind: str, server: Any) -> None:
        super().__init__(kind)
        from tests.servers.azure import WatchedContainer, make_container

        self._container = make_container(server)
        self._watched = WatchedContainer(self._container)
        self._contents: dict[tuple[str, str], bytes] = {}  # by name and ETag
        self.sent = self._watched.calls
        self.options |= {"connection_string": server.connection_string, "account_key": server.account_key}
        self.options |= {"account_name": "tests", "azure_container": self._container.container_name}

    def prepare(self) -> None:
        from async_uploads.storage import azure_copying

        azure_copying.AT_ONCE = 1
        default_storage._client = self._watched  # type: ignore[attr-defined]  # of a lazy object

    def reset(self) -> None:
        for blob in self._container.list_blobs(include=["uncommittedblobs"]):
            name = blob.name
            if blob.size is None or blob.etag is None:
                self._container.get_blob_client(name).upload_blob(b"", overwrite=True)
            self._container.delete_blob(name)

    def read_tree(self) -> dict[str, bytes]:
        found = {}
        for blob in self._container.list_blobs():
            known = blob.name, blob.etag
            if known not in self._contents:
                self._contents[known] = self._container.download_blob(blob.name).readall()
            found[blob.name.removeprefix("media/")] = self._contents[known]
        return found

    @contextmanager
    def broken(self, wrap: Wrap) -> Iterator[None]:
        with mock.patch.object(self._watched, "around", lambda name, call: wrap(name, call)()):
            yield

    def be_child(self) -> None:
        pass

    def fail(self) -> Exception:
        from tests.servers.azure import lost_answer

        return lost_answer()


current: Cloud | None = None


@contextmanager
def served(kind: str) -> Iterator[Cloud]:
    """Start the server of a kind of cloud; before Django is set up."""
    global current
    if kind.startswith("s3-"):
        from tests.servers.moto import MotoServer

        with MotoServer(smallest_part=1) as moto:
            current = Bucket(kind, moto)
            yield current
        return
    from tests.servers.azurite import AzuriteServer, install_azurite

    program = install_azurite()
    if program is None:
        raise LookupError("There is no Azurite")
    with AzuriteServer(str(program)) as azurite:
        current = Container(kind, azurite)
        yield current
