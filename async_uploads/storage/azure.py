"""Azure Blob Storage, on django-storages: tus uploads as staged blocks, or one PUT by a shared access signature.

A shared access signature (SAS) cannot limit a size or a type: both are looked at when a form is validated. It outlives
the save too, so a copy is only made of the very state that was validated (its ETag).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit, urlunsplit

from azure.storage.blob import BlobClient, BlobSasPermissions, BlobServiceClient, ExponentialRetry, generate_blob_sas
from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured
from django.utils.deconstruct import deconstructible
from storages.backends.azure_storage import AzureStorage  # type: ignore[import-untyped]

from async_uploads import conf, journal
from async_uploads.manifests import ModelManifests
from async_uploads.storage.azure_copying import BlobCopier, is_copy, is_there
from async_uploads.storage.azure_probe import Probe
from async_uploads.storage.azure_transport import build_transport
from async_uploads.storage.base import GenerateUploadUrlResponse, shorten
from async_uploads.storage.cloud import CloudAsyncUploadStorage, ObjectFacts
from async_uploads.storage.downloads import build_download_headers
from tus_server.stores.azure import LIFETIME, AzureStore
from tus_server.stores.azure_blobs import AzureBlobs, Found
from tus_server.uploads import UploadRecord

if TYPE_CHECKING:
    from tus_server.stores.base import Records

#: Clocks differ, and a user delegation key is good for 7 days at most.
_SKEW = timedelta(minutes=15)
_KEY_LIFETIME = timedelta(days=6, hours=23)

#: Seconds that the service may take to read the source of a copy.
_COPY_EXPIRY = 24 * 3600


@deconstructible(path="async_uploads.storage.azure.AzureAsyncUploadStorage")
class AzureAsyncUploadStorage(CloudAsyncUploadStorage, AzureStorage):  # type: ignore[misc]  # untyped base
    """``storages.backends.azure_storage.AzureStorage`` that takes uploads.

    Takes all options of django-storages, and those of ``CloudAsyncUploadStorage``.
    """

    #: Blocks of an unfinished upload vanish after a week without a new one.
    max_lifetime = LIFETIME

    def __init__(self, **options: Any) -> None:  # Any: the options of django-storages
        super().__init__(**options)
        self._delegation: tuple[Any, datetime] | None = None
        self.overwrites = bool(self.overwrite_files)

    def identity(self) -> str:
        """Return account, container and location."""
        account = self.account_name or self.connection_string or self.custom_domain
        return shorten(f"azure:{account}/{self.azure_container}/{self.location}")

    def is_private(self) -> bool:
        """Say whether reading needs a signature, as far as the options tell: a domain of its own without signed URLs
        stands before a public container."""
        return bool(self.expiration_secs) or not self.custom_domain

    # The client.

    def _get_service_client(self) -> BlobServiceClient:
        """Return a client that tries again after one second, not after fifteen, and keeps enough connections."""
        options: dict[str, Any] = {
            "retry_policy": ExponentialRetry(initial_backoff=1, increment_base=2, retry_total=3, random_jitter_range=1),
            "transport": build_transport(),
            **({"api_version": self.api_version} if self.api_version else {}),
            **self.client_options,
        }
        if self.connection_string is not None:
            return BlobServiceClient.from_connection_string(self.connection_string, **options)
        credential: Any = None
        if self.account_key:
            credential = {"account_name": self.account_name, "account_key": self.account_key}
        elif self.sas_token or self.token_credential:
            credential = self.sas_token or self.token_credential
        url = f"{self.azure_protocol}://{self.account_name}.blob.{self.endpoint_suffix}"
        return BlobServiceClient(url, credential=credential, **options)

    def get_blob_client(self, blob: str) -> BlobClient:
        """Return the client of one blob, by its full name; the container's client is made when it is first needed."""
        client: BlobClient = self.client.get_blob_client(blob)
        return client

    @property
    def blobs(self) -> AzureBlobs:
        """The container's blobs, by their full names."""
        return AzureBlobs(self)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_client": None, "_service_client": None, "_delegation": None}

    # Signatures.

    def sign(self, name: str, permission: str, expire: float, headers: Mapping[str, str] | None = None) -> str:
        """Return a blob's address with a signature for it alone.

        Args:
            name: The file's name or key.
            permission: ``r``, ``cw``, ...
            expire: Seconds that it is valid for.
            headers: Headers that the service answers a download with, in snake case.

        Raises:
            ImproperlyConfigured: There is nothing to sign with.
        """
        return self._sign_blob(self._get_valid_path(name), permission, expire, headers)

    def _sign_blob(self, blob: str, permission: str, expire: float, headers: Mapping[str, str] | None = None) -> str:
        parts = urlsplit(self.get_blob_client(blob).url)
        expiry = datetime.now(UTC) + timedelta(seconds=expire)
        if not self.account_key and not self.token_credential:
            raise ImproperlyConfigured(
                "Azure URLs are signed with an account_key, a connection_string that has one, or a token_credential. "
                "This storage has none of them."
            )
        options: dict[str, Any] = dict(headers or {})
        signature = generate_blob_sas(
            self.account_name or parts.netloc.partition(".")[0],
            self.azure_container,
            blob,
            account_key=self.account_key,
            user_delegation_key=None if self.account_key else self.get_user_delegation_key(expiry),
            permission=BlobSasPermissions.from_string(permission),
            expiry=expiry,
            protocol="https" if parts.scheme == "https" else None,
            **options,
        )
        return urlunsplit(parts._replace(query=signature))

    def get_user_delegation_key(self, expiry: datetime) -> Any:
        """Return a key that the managed identity (``token_credential``) may sign with until ``expiry``, kept for days.

        Any: a ``UserDelegationKey``; ``None`` where there is no such identity.
        """
        if self.token_credential is None:
            return None
        if expiry.tzinfo is None:
            expiry = expiry.replace(tzinfo=UTC)  # as django-storages gives it
        now = datetime.now(UTC)
        if self._delegation is None or expiry > self._delegation[1]:
            end = now + _KEY_LIFETIME
            key = self.service_client.get_user_delegation_key(key_start_time=now - _SKEW, key_expiry_time=end)
            self._delegation = key, end
        return self._delegation[0]

    def _expire_at(self, expire: float) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=expire)

    def _sign_source(self, blob: str) -> str:
        """Return an address at which the service itself may read a blob of this container."""
        if self.account_key or self.token_credential:
            return self._sign_blob(blob, "r", _COPY_EXPIRY)
        url: str = self.get_blob_client(blob).url  # with a shared access signature, that
        return url

    def generate_upload_url(self, key: str, field_id: str, *args: Any, **kwargs: Any) -> GenerateUploadUrlResponse:
        """Return where a browser PUTs the file: one request, up to 5000 MiB, for this one blob."""
        return {
            "url": self.sign(key, "cw", conf.get("UPLOAD_URL_EXPIRY")),
            "fields": {},
            "method": "PUT",
            "provider": "azure",
            "headers": {"x-ms-blob-type": "BlockBlob"},
        }

    def generate_download_url(
        self, key: str, field_id: str, *, expire: int | None = None, parameters: object = None, **kwargs: Any
    ) -> str:
        """Return a signed address that answers with the file's original name.

        Args:
            key: The file's name or key.
            field_id: The field's id in its registry.
            expire: Seconds that it is valid for.
            parameters: Headers of the answer, as django-storages has them (``content_disposition``, ...).
            kwargs: Any: ignored.
        """
        name = self.find_stored_name(key)
        headers = build_download_headers(self, key, parameters)
        url = self.sign(name, "r", expire or conf.get("DOWNLOAD_URL_EXPIRY"), headers)
        return urlunsplit(urlsplit(url)._replace(netloc=self.custom_domain)) if self.custom_domain else url

    # Uploads.

    def upload_store(self, records: Records | None) -> AzureStore:
        """Return the store that stages blocks in this container; without ``records`` it can only discard."""

        def build() -> AzureStore:
            return AzureStore(
                self,
                cast("Records", records),
                ModelManifests(),
                location=self._get_valid_path,
                settings=self._settings_of_upload,
                sign=self._sign_source,
            )

        store = self._find_store(cast("Records", records), build)
        assert isinstance(store, AzureStore)
        return store

    def _settings_of_upload(self, record: UploadRecord) -> Mapping[str, str | None]:
        return self._build_settings(record.object_name)

    def _build_settings(self, name: str, media_type: str = "") -> dict[str, str | None]:
        """Return the headers of a blob by the rules of django-storages, with its type as it was verified."""
        path = self._get_valid_path(name)
        settings: dict[str, str | None] = self._get_content_settings_parameters(path)
        # An archive is a file, not a way of sending one: with the encoding guessed, browsers would unpack it.
        guessed = {"content_encoding": None, **({"content_type": media_type} if media_type else {})}
        chosen = self.get_object_parameters(path)
        return {**settings, **{key: value for key, value in guessed.items() if key not in chosen}}

    def move_file(self, from_key: str, to_key: str) -> None:
        """Copy an upload to its permanent name on the service's side; the source stays. May be repeated.

        Raises:
            FileExistsError: Another blob has that name (where files are not overwritten); nothing was changed.
            FileNotFoundError: There is no such upload.
            SourceChanged: It was written over after it was validated.
            CopyFailed: The service gave up, or has not finished.
        """
        source, target = self._get_valid_path(from_key), self._get_valid_path(to_key)
        if source == target:
            return
        row = journal.find_by_key(from_key)
        media_type = row.media_type if row is not None else ""
        # Of a signed upload; what came by tus is written by nobody any more.
        etag = row.digest if row is not None and row.digest.startswith('"') else ""
        copier = BlobCopier(self.blobs, self._sign_source, is_overwriting=self.overwrites)
        copier.copy(source, target, self._build_settings(to_key, media_type), etag)

    def return_file(self, key: str, name: str, length: int | None) -> None:
        """Delete the copy that an interrupted move made, or is making, if it is ours."""
        source, target = self._get_valid_path(key), self._get_valid_path(name)
        found = self.blobs.look(target) if source != target else None
        if found is None or not is_copy(found, source):
            return
        if found.copy_status == "pending":
            self.blobs.abort_copy(target, found.copy_id)
            found = self.blobs.look(target) or found
        self.blobs.delete(target, found.etag)

    def discard_upload(self, row: journal.AsyncTempFile) -> bool:
        """Remove the blob and the blocks of an upload that nobody took over; repeatable.

        Blobs that came by tus are deleted only if they bear the upload's mark and have the recorded ETag.
        """
        self.remove_late_copy(row)
        if row.metadata:  # tus keeps its metadata; a signed upload has none
            record = UploadRecord(row.upload_id, row.place, row.length, row.metadata, row.created_at)
            return self.upload_store(None).discard(record)
        self._remove_object(row.place)
        return True

    def probe(self) -> list[CheckMessage]:
        """Try what this storage needs of its container; see ``azure_probe``."""
        return Probe(self).run()

    # Looking at blobs.

    def _stat(self, name: str) -> ObjectFacts | None:
        found = self.blobs.look(self._get_valid_path(name))
        return None if found is None or not is_there(found) else _build_facts(found)

    def _fetch(self, name: str, start: int, count: int) -> tuple[bytes, ObjectFacts]:
        found, data = self.blobs.open(self._get_valid_path(name), start, count)
        if not is_there(found):
            raise FileNotFoundError(f"The copy {name} is not done")
        return data, _build_facts(found)

    def _remove_object(self, name: str, etag: str = "") -> None:
        self.blobs.delete(self._get_valid_path(name), etag)


def _build_facts(found: Found) -> ObjectFacts:
    return ObjectFacts(found.size, found.etag, found.settings.get("content_type") or "", found.metadata)
