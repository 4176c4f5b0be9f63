"""Stand-ins around an S3 client: what fails, dies, remembers or pretends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError, EndpointConnectionError

from tus_server.errors import StoreUnavailable
from tus_server.stores.manifests import Manifest
from tus_server.stores.s3_client import S3Client
from tus_server.testing.faults import Faults, When

#: The calls that change something or fetch bytes: all that a store makes.
CALLS = (
    *("put_object", "get_object", "head_object", "delete_object", "list_objects_v2", "create_multipart_upload"),
    *("upload_part", "upload_part_copy", "list_parts", "complete_multipart_upload", "abort_multipart_upload"),
)


class ClientAround:
    """A client in front of another. Override ``around``."""

    def __init__(self, client: S3Client) -> None:
        self.client = client

    # Any: parameters and answers are those of the S3 API.
    def around(self, name: str, call: Callable[..., Any], parameters: dict[str, Any]) -> Any:
        """Make the call, or do something else."""
        return call(**parameters)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in CALLS:
            raise AttributeError(name)
        call = getattr(self.client, name)
        return lambda **parameters: self.around(name, call, parameters)


def refusal(code: str, operation: str = "Call", status: int = 400) -> ClientError:
    """Return the error of botocore for an answer of S3."""
    answer: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, operation)


class Died(BaseException):
    """The process died here."""


class LockedFaults(Faults):
    """Faults that calls of several threads may meet; after a death, no call has an effect any more."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.is_dead = False
        self._lock = threading.Lock()
        self._die = False

    def arm(self, skip: int, when: When, error: Callable[[], BaseException] = StoreUnavailable) -> None:
        """See ``Faults``."""
        self._die = False  # of a death that was called off
        super().arm(skip, when, error)

    def arm_death(self, skip: int, when: When) -> None:
        """Let the process die at one call: the next but ``skip``."""
        self.arm(skip, when, Died)
        self._die = True

    def call(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """See ``Faults``."""
        with self._lock:
            self.count += 1
            if self.is_dead:
                raise Died()
            is_turn = self._left == 0
            if self._left is not None:
                self._left = None if is_turn else self._left - 1
            if is_turn:
                self.fired.append((name, self._when))
                self.is_dead = self._die
        if not is_turn:
            return function(*args, **kwargs)
        if self._when == "after":
            function(*args, **kwargs)
        raise self._error()


class FaultyClient(ClientAround):
    """A client whose calls fail when they are told to, before or after they had their effect."""

    def __init__(self, client: S3Client, faults: Faults) -> None:
        super().__init__(client)
        self.faults = faults

    def around(self, name: str, call: Callable[..., Any], parameters: dict[str, Any]) -> Any:
        """See ``ClientAround``."""
        return self.faults.call(name, call, **parameters)


def lost_answer() -> Exception:
    """Return what botocore raises when a connection breaks."""
    return EndpointConnectionError(endpoint_url="http://127.0.0.1")


class FaultyManifests:
    """Manifests whose ``advance`` fails when it is told to."""

    # Any: in front of any keeper of manifests.
    def __init__(self, manifests: Any, faults: Faults) -> None:
        self._manifests = manifests
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manifests, name)

    def advance(self, known: Manifest, wanted: Manifest, new_parts: Any = ()) -> Manifest:
        """See ``Manifests``."""
        advanced: Manifest = self._faults.call("advance", self._manifests.advance, known, wanted, new_parts)
        return advanced


class RecordingClient(ClientAround):
    """A client that remembers the bytes of parts, which nobody can read before Complete."""

    def __init__(self, client: S3Client) -> None:
        super().__init__(client)
        self.parts: dict[tuple[str, int], bytes] = {}

    def around(self, name: str, call: Callable[..., Any], parameters: dict[str, Any]) -> Any:
        """See ``ClientAround``."""
        if name == "upload_part":
            body = parameters["Body"]
            data = body.read() if hasattr(body, "read") else bytes(body)
            answer = call(**{**parameters, "Body": data})
            self.parts[parameters["UploadId"], parameters["PartNumber"]] = data
            return answer
        if name == "upload_part_copy":
            source = {"Bucket": parameters["CopySource"]["Bucket"], "Key": parameters["CopySource"]["Key"]}
            if "CopySourceRange" in parameters:
                source["Range"] = parameters["CopySourceRange"]
            answer = call(**parameters)
            data = self.client.get_object(**source)["Body"].read()
            self.parts[parameters["UploadId"], parameters["PartNumber"]] = data
            return answer
        return call(**parameters)

    def received(self, bucket: str, key: str, manifest: Manifest) -> bytes:
        """Return the bytes that lie in the backend for an upload, without asking the store."""
        if manifest.finished is not None:
            data: bytes = self.client.get_object(Bucket=bucket, Key=key)["Body"].read()
            return data
        numbers = range(1, manifest.part_count + 1)
        pieces = [self.parts[manifest.multipart_id or "", number] for number in numbers]
        for segment in manifest.tail:
            if segment.name:
                pieces.append(self.client.get_object(Bucket=bucket, Key=segment.name)["Body"].read())
            else:
                pieces.append(segment.data)
        return b"".join(pieces)
