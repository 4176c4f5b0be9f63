"""Uploads and files in a directory of the server. Uploads lie at their key below the storage's location.

Promotion is a hard link and an unlink: it never overwrites, and it can be repeated after a crash at any line.
"""

from __future__ import annotations

import errno
import fcntl
import filecmp
import glob
import hashlib
import os
import shutil
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlencode

from django.core.files import File
from django.core.files.storage import FileSystemStorage
from django.db.models import Q
from django.urls import URLPattern, URLResolver, path, reverse
from django.utils import timezone
from django.utils.deconstruct import deconstructible

from async_uploads import conf, journal, signals, signing
from async_uploads.registry import default_async_field_registry, registries
from async_uploads.storage import file_locks
from async_uploads.storage.base import (
    AsyncUploadStorage,
    GenerateUploadUrlResponse,
    VerifiedUpload,
    is_without_journal,
    shorten,
    without_journal,
)
from async_uploads.storage.downloads import find_original_name
from async_uploads.values import truncate_name
from tus_server.stores.filesystem import FilesystemStore

if TYPE_CHECKING:
    from async_uploads.registry import AsyncFieldRegistry
    from tus_server.stores.base import Records

UPLOAD_ROUTE = "upload-file-direct"
DOWNLOAD_ROUTE = "download-file-direct"

#: What os.link answers where a file system has no hard links, or the names lie on two of them.
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK, errno.EACCES}


@deconstructible(path="async_uploads.storage.filesystem.FileSystemAsyncUploadStorage")
class FileSystemAsyncUploadStorage(AsyncUploadStorage, FileSystemStorage):
    """Django's ``FileSystemStorage`` that takes uploads.

    Args:
        location, base_url, file_permissions_mode, directory_permissions_mode, allow_overwrite: As Django's.
        transport: What the widget uses: ``tus`` (resumable) or ``signed`` (one POST).
    """

    def __init__(
        self,
        location: str | os.PathLike[str] | None = None,
        base_url: str | None = None,
        file_permissions_mode: int | None = None,
        directory_permissions_mode: int | None = None,
        allow_overwrite: bool = False,
        *,
        transport: Literal["tus", "signed"] = "tus",
    ) -> None:
        super().__init__(
            location=os.fspath(location) if location is not None else None,
            base_url=base_url,
            file_permissions_mode=file_permissions_mode,
            directory_permissions_mode=directory_permissions_mode,
            allow_overwrite=allow_overwrite,
        )
        self.overwrites = allow_overwrite
        self.transport = transport
        self._stores: dict[tuple[object, ...], FilesystemStore] = {}

    def identity(self) -> str:
        """Return the storage's location."""
        return shorten(f"filesystem:{self.location}")

    def upload_store(self, records: Records) -> FilesystemStore:
        """Return the store whose data files lie at the keys below this storage's location."""
        file_mode, directory_mode = self.file_permissions_mode, self.directory_permissions_mode
        durability = conf.get("DURABILITY")
        facts = (self.location, records, durability, file_mode, directory_mode)
        store = self._stores.get(facts)
        if store is None:  # a request asks several times
            store = self._stores[facts] = FilesystemStore(
                self.location,
                records,
                durability=durability,
                file_mode=0o666 if file_mode is None else file_mode,
                directory_mode=0o777 if directory_mode is None else directory_mode,
            )
        return store

    # Signed URLs of our own views.

    def generate_upload_url(self, key: str, field_id: str, *args: Any, **kwargs: Any) -> GenerateUploadUrlResponse:
        """Return a signed URL of ``upload-file-direct/`` that takes one multipart POST."""
        token = signing.sign({"key": key, "field_id": field_id}, "upload", conf.get("UPLOAD_URL_EXPIRY"))
        return {
            "url": f"{self._reverse(field_id, UPLOAD_ROUTE)}?{urlencode({'token': token})}",
            "fields": {},
            "method": "POST",
            "provider": "filesystem",
            "fileFieldName": "file",
        }

    def generate_download_url(
        self, key: str, field_id: str, *, expire: int | None = None, parameters: object = None, **kwargs: Any
    ) -> str:
        """Return a signed URL of ``download-file-direct/``.

        Args:
            key: The file's name or key.
            field_id: The field's id in its registry.
            expire: Seconds that it is valid for.
            parameters: ``{"cache_control": ..., "content_disposition": ..., "content_type": ...}`` for the answer.
            kwargs: Any: ignored.
        """
        payload: dict[str, Any] = {"name": key, "field_id": field_id, "filename": find_original_name(self, key)}
        if isinstance(parameters, dict):
            payload["parameters"] = parameters
        token = signing.sign(payload, "download", expire or conf.get("DOWNLOAD_URL_EXPIRY"))
        return f"{self._reverse(field_id, DOWNLOAD_ROUTE)}?{urlencode({'token': token})}"

    def _reverse(self, field_id: str, route: str) -> str:
        owning = [registry for registry in registries if field_id in registry.fields_by_id]
        registry = owning[0] if owning else default_async_field_registry
        return reverse(registry.get_reversible_name(route))

    def get_url_patterns(self, registry: AsyncFieldRegistry) -> list[URLPattern | URLResolver]:
        """Return the routes of the direct upload and download views."""
        return [
            *super().get_url_patterns(registry),
            *(
                path(f"{route}/", registry.get_view(route), name=registry.get_url_name(route))
                for route in (UPLOAD_ROUTE, DOWNLOAD_ROUTE)
            ),
        ]

    # Files.

    def verify_upload(self, key: str, max_size: int | None) -> VerifiedUpload | None:
        """Return what the journal says: both of our ways to upload record there when an upload is finished."""
        row = journal.find_by_key(key)
        if row is None or not row.is_finished:
            return None
        size = self.stored_size(row.place)
        return None if size is None else VerifiedUpload(size, row.media_type, row.digest)

    def receive_direct(self, row: journal.AsyncTempFile, content: File[Any]) -> bool:
        """Store the body of a signed upload at the row's key and record it as finished, with its type as verified.

        Returns:
            ``False`` when the upload is finished already, or has expired; nothing was changed.
        """
        target = self.path_of(row.place)
        self._make_directory(target)
        partial = f"{target}.{os.urandom(6).hex()}.part"
        try:
            with open(partial, "xb") as file:
                for chunk in content.chunks():
                    file.write(chunk)
                file.flush()
                if conf.get("DURABILITY") != "none":
                    os.fsync(file.fileno())
                size = file.tell()
            try:
                _link_or_rename(partial, target)
            except FileExistsError:
                return False
        finally:
            with suppress(FileNotFoundError):
                os.unlink(partial)
        now = timezone.now()
        columns = {"finished_at": now, "last_activity": now, "length": size, "media_type": row.media_type}
        try:
            is_recorded = signals.record(
                signals.upload_finished, {"pk": row.pk}, Q(finished_at=None, claim=None), columns
            )
        except BaseException:
            os.unlink(target)  # the same URL takes the file again
            raise
        if is_recorded:
            return True
        # Meanwhile it expired, or another one was finished and taken over: nobody else would remove these bytes.
        os.unlink(target)
        return False

    def hold_source(self, key: str, name: str) -> AbstractContextManager[None]:
        """Hold the file, whichever of both names it has, by ``flock``: the kernel frees it when its holder dies."""
        return file_locks.locked(self.path_of(key), self.path_of(name))

    def move_file(self, from_key: str, to_key: str) -> None:
        """Give the file at ``from_key`` the name ``to_key``.

        Raises:
            FileExistsError: Another file has that name and this storage does not overwrite; nothing was changed.
            FileNotFoundError: There is no file at either name.
        """
        source, target = self.path_of(from_key), self.path_of(to_key)
        if not os.path.lexists(source):
            if os.path.lexists(target):  # moved before a crash
                _remove_partials(source, target)
                return
            raise FileNotFoundError(errno.ENOENT, "There is no such upload", from_key)
        made = self._make_directory(target)
        try:
            self._give_name(source, target)
        except FileNotFoundError:
            if os.path.lexists(source) or not os.path.lexists(target):
                raise
            return  # somebody else made this very move meanwhile
        if conf.get("DURABILITY") != "none":
            for directory in {os.path.dirname(target), *map(os.path.dirname, made)}:
                _sync_directory(directory)
        with suppress(FileNotFoundError):
            os.unlink(source)
        _remove_partials(source, target)
        self._ensure_location_group_id(target)  # type: ignore[attr-defined]  # Django's own, missing in the stubs

    def copies_on_move(self, from_key: str, to_key: str) -> bool:
        """Say whether the two names lie on two file systems; else moving is a matter of names."""
        source, directory = self.path_of(from_key), os.path.dirname(self.path_of(to_key))
        while not os.path.isdir(directory):
            directory = os.path.dirname(directory)
        return os.path.lexists(source) and os.stat(source).st_dev != os.stat(directory).st_dev

    def discard_upload(self, row: journal.AsyncTempFile) -> bool:
        """Remove the data file of an upload, unless somebody holds its lock, and what killed processes left beside."""
        path = self.path_of(row.place)
        with suppress(FileNotFoundError), open(path, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            os.unlink(path)
        for partial in glob.iglob(f"{glob.escape(path)}.*.part"):
            with suppress(FileNotFoundError):
                os.unlink(partial)
        return True

    def return_file(self, key: str, name: str, length: int | None) -> None:
        """Undo a move that was interrupted: the claim kept everybody else of ours away from the name."""
        source, target = self.path_of(key), self.path_of(name)
        _remove_partials(source, target)
        if not os.path.lexists(target):
            return
        if not os.path.lexists(source):
            if length is not None and os.stat(target).st_size == length:
                self.move_file(name, key)
        elif _is_copy(source, target):
            os.unlink(target)

    def _give_name(self, source: str, target: str) -> None:
        if self.file_permissions_mode is not None:
            os.chmod(source, self.file_permissions_mode)
        if self.overwrites:
            _replace(source, target)
            return
        try:
            _link_or_rename(source, target)
        except FileExistsError:
            if not _is_copy(source, target):
                raise

    def stored_size(self, name: str) -> int | None:
        """Return the size in bytes of what lies at this very name."""
        try:
            return os.stat(self.path_of(name)).st_size
        except FileNotFoundError:
            return None

    def find_stored_name(self, name: str) -> str:
        """Return the name itself: our own download view reads through the journal."""
        return name

    def get_valid_name(self, name: str) -> str:
        """Return a name that is valid and short enough (255 bytes) for usual file systems."""
        name = super().get_valid_name(name)
        length = min(len(name), 240)
        # 8 bytes are left for the random part of an alternative name.
        while len(name.encode()) > 240:
            length -= 1
            name = truncate_name(name, length)
        return name

    def path_of(self, name: str) -> str:
        """Return the path that belongs to this very name, whether or not its file lies there yet."""
        return super().path(name)

    def path(self, name: str) -> str:
        """Return where a file lies; before promotion that is the path of its upload.

        For a name that has no file at all this is where it would lie, as with Django's storage.
        """
        own = self.path_of(name)
        if is_without_journal() or (os.path.lexists(own) and not self.overwrites):
            return own
        place = self.find_elsewhere(name)
        if place is not None and os.path.lexists(self.path_of(place)):
            return self.path_of(place)
        return own

    def url(self, name: str | None) -> str:
        """Return a file's address below ``base_url``; before promotion that of its upload."""
        if name and not os.path.lexists(self.path_of(name)):
            name = self.find_elsewhere(name) or name
        return super().url(name)

    def _save(self, name: str, content: File[Any]) -> str:
        with without_journal():
            saved: str = super()._save(name, content)  # type: ignore[misc]  # missing in the stubs
        return saved

    def delete(self, name: str) -> None:
        """Delete what lies at this very name."""
        with without_journal():
            super().delete(name)

    def _make_directory(self, target: str) -> list[str]:
        """Make the directory of a path, and return what had to be made."""
        directory = os.path.dirname(target)
        mode = self.directory_permissions_mode
        missing = []
        while not os.path.isdir(directory):
            missing.append(directory)
            directory = os.path.dirname(directory)
        for each in reversed(missing):
            with suppress(FileExistsError):
                os.mkdir(each)
                if mode is not None:
                    os.chmod(each, mode)
        return missing


def _link_or_rename(source: str, target: str) -> None:
    """Give a file another name without overwriting; the old name may stay.

    Raises:
        FileExistsError: There is a file with that name.
    """
    try:
        os.link(source, target)
        return
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    # No hard links here: the journal keeps our own names apart, so only a foreign writer could come in between.
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, "File exists", target)
    _replace(source, target)


def _replace(source: str, target: str) -> None:
    """Rename a file over another, by way of a copy where they lie on two file systems."""
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        partial = f"{_partial_prefix(source, target)}{os.urandom(6).hex()}.part"
        try:
            shutil.copyfile(source, partial)
            shutil.copymode(source, partial)
            with open(partial, "rb") as copy:
                os.fsync(copy.fileno())
            os.replace(partial, target)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(partial)


def _partial_prefix(source: str, target: str) -> str:
    """Return how the names of half copies begin: they tell whose they are, wherever in the directory they end."""
    digest = hashlib.sha256(os.path.basename(source).encode()).hexdigest()
    return os.path.join(os.path.dirname(target), f".{digest[:32]}.")


def _remove_partials(source: str, target: str) -> None:
    """Remove what killed processes left half copied; whoever copies the same file at this moment is too late."""
    for partial in glob.iglob(f"{glob.escape(_partial_prefix(source, target))}*.part"):
        with suppress(FileNotFoundError):
            os.unlink(partial)


def _is_copy(source: str, target: str) -> bool:
    """Say whether a file got a second name by a move that was interrupted: it is the same, or a copy elsewhere."""
    if os.path.samefile(source, target):
        return True
    is_elsewhere = os.stat(source).st_dev != os.stat(target).st_dev
    return is_elsewhere and filecmp.cmp(source, target, shallow=False)


def _sync_directory(directory: str) -> None:
    """Make a new name survive power loss; some file systems cannot, which is their documented state."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
