"""What a container lacks, found out by trying: a blob is written, read, copied and deleted under the temporary prefix.

Run by ``manage.py check --deploy --database default --tag async_uploads_buckets``. Nothing is left behind.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from azure.core.exceptions import AzureError
from azure.storage.blob import BlobClient
from django.core.checks import CheckMessage, Error, Info, Warning
from django.core.exceptions import ImproperlyConfigured

from tus_server.errors import TusError
from tus_server.stores.azure_blocks import Block

if TYPE_CHECKING:
    from async_uploads.storage.azure import AzureAsyncUploadStorage

CONTENT = b"written by a check of django-async-uploads"
#: What a browser's PUT brings.
HEADERS = ("content-type", "x-ms-blob-type")


class Probe:
    """Tries what a storage needs of its container.

    Args:
        storage: The storage.
    """

    def __init__(self, storage: AzureAsyncUploadStorage) -> None:
        self.storage = storage
        self.blobs = storage.blobs
        self.name = f"{storage.temporary_key_prefix}/check-{secrets.token_hex(8)}"
        self.copy = f"{self.name}-copy"
        self.found: list[CheckMessage] = []

    def run(self) -> list[CheckMessage]:
        """Return what is missing; nothing is left in the container."""
        hint = "Look at account_name, azure_container and the credentials, and whether the container exists."
        if not self._can("E201", "be asked for a blob", lambda: self._look(self.name), hint):
            return self.found
        try:
            hint = "The identity needs the role Storage Blob Data Contributor, a signature the permissions rcwd."
            if self._can("E202", "be written to", self._write, hint):
                self._try_signature()
                self._try_privacy()
                hint = "Copies are made when records are saved; see what the service says."
                self._can("E204", "be copied in", self._copy, hint)
        finally:
            hint = "Allow to delete blobs: the cleanup does."
            self._can("E205", "be deleted from", self._delete, hint)
        self._judge_cors()
        return self.found

    def _report(self, kind: type[Error | Warning | Info], number: str, text: str, hint: str) -> None:
        message = f"The container {self.storage.azure_container!r} {text}"
        self.found.append(kind(message, hint=hint, id=f"async_uploads.{number}"))

    def _can(self, number: str, what: str, action: Callable[[], object], hint: str) -> bool:
        try:
            action()
        except (TusError, AzureError, OSError, ImproperlyConfigured) as error:
            reason = error.__cause__ or error
            self._report(Error, number, f"cannot {what}: {str(reason).partition(chr(10))[0]}", hint)
            return False
        return True

    def _path(self, name: str) -> str:
        return str(self.storage._get_valid_path(name))

    def _look(self, name: str) -> None:
        self.blobs.look(self._path(name))

    def _write(self) -> None:
        block = Block(0, len(CONTENT), 1).id
        self.blobs.stage(self._path(self.name), block, CONTENT)
        self.blobs.commit(self._path(self.name), [block], {"content_type": "text/plain"}, {})

    def _copy(self) -> None:
        self.storage.move_file(self.name, self.copy)

    def _delete(self) -> None:
        for name in (self.name, self.copy):
            self.blobs.delete(self._path(name))

    def _try_signature(self) -> None:
        """Read as a browser does."""

        def read() -> None:
            with BlobClient.from_blob_url(self.storage.sign(self.name, "r", 60), retry_total=0) as stranger:
                stranger.download_blob().readall()

        hint = (
            "Downloads and signed uploads need an account_key or a token_credential; with that one also the role "
            "Storage Blob Delegator on the account."
        )
        self._can("E203", "be read by a signed URL", read, hint)

    def _try_privacy(self) -> None:
        """Read without a signature."""
        if not self.storage.is_private():
            return
        url = self.blobs.url(self._path(self.name)).partition("?")[0]
        try:
            with BlobClient.from_blob_url(url, retry_total=0) as stranger:
                stranger.download_blob().readall()
        except AzureError:
            return
        hint = "Switch anonymous access of the container off, or say zero_copy=False."
        self._report(Warning, "W201", "shows everybody what lies in it.", hint)

    def _judge_cors(self) -> None:
        """Browsers send signed uploads to the account themselves; tus goes through Django."""
        if self.storage.transport != "signed":
            return
        try:
            rules = self.storage.service_client.get_service_properties()["cors"]
        except AzureError as error:
            hint = "Look yourself whether there is a rule for PUT with the headers content-type and x-ms-blob-type."
            text = f"is of an account whose CORS rules cannot be read: {str(error).partition(chr(10))[0]}"
            self._report(Info, "I201", text, hint)
            return
        if not any(_takes_uploads(rule.allowed_methods, rule.allowed_headers) for rule in rules):
            hint = (
                f"Allow PUT with the headers {', '.join(HEADERS)} for your origins: az storage cors add --services b …"
            )
            text = "is of an account without a CORS rule that lets browsers send files."
            self._report(Warning, "W202", text, hint)


def _takes_uploads(methods: str, headers: str) -> bool:
    """Say whether a CORS rule, its lists separated by commas, lets a browser send an upload."""
    allowed = [header.strip().lower() for header in headers.split(",")]
    return "PUT" in methods.upper().split(",") and all(
        any(each == header or (each.endswith("*") and header.startswith(each[:-1])) for each in allowed)
        for header in HEADERS
    )
