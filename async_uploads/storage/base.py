"""What a storage needs so that ``AsyncFileField`` can use it: where uploads go, and how a file gets its permanent name.

A subclass with only ``generate_upload_url``, ``generate_download_url`` and ``move_file`` works. Between commit and
promotion a record holds a name whose file still lies at the upload's key; reads go through the journal on a miss.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict, TypeVar

from django.core.checks import CheckMessage
from django.core.exceptions import SuspiciousFileOperation
from django.core.files import File
from django.core.files.storage import Storage
from django.urls import URLPattern, URLResolver
from django.utils import timezone

from async_uploads import journal
from async_uploads.values import reduce_name, truncate_name

if TYPE_CHECKING:
    from async_uploads.registry import AsyncFieldRegistry
    from tus_server.stores.base import Records, UploadStore

T = TypeVar("T")

#: While set, ``exists`` looks at the storage alone: the journal's UNIQUE column guards promised names.
_without_journal: ContextVar[bool] = ContextVar("async_uploads_without_journal", default=False)


class GenerateUploadUrlResponse(TypedDict):
    """Where and how the browser sends a file; ``fields`` go before it, under ``fileFieldName``."""

    url: str
    fields: dict[str, str]
    method: NotRequired[str]
    provider: NotRequired[str]
    headers: NotRequired[dict[str, str]]
    fileFieldName: NotRequired[str]


@dataclass(frozen=True)
class VerifiedUpload:
    """What a storage found when it looked at an upload: ``size`` in bytes, ``None`` where it cannot tell."""

    size: int | None = None
    media_type: str = ""
    digest: str = ""


@contextmanager
def without_journal() -> Iterator[None]:
    """Let storages answer ``exists`` by what they hold, not by what is promised."""
    token = _without_journal.set(True)
    try:
        yield
    finally:
        _without_journal.reset(token)


def is_without_journal() -> bool:
    """Say whether the storage is asked what it holds, not what is promised."""
    return _without_journal.get()


def shorten(identity: str) -> str:
    """Return a storage's identity as it fits into the journal; one that is too long ends in its digest."""
    return identity if len(identity) <= 255 else identity[:190] + "~" + sha256(identity.encode()).hexdigest()


class AsyncUploadStorage(Storage):
    """Base class of storages for ``AsyncFileField``; put it before the Django storage that you extend."""

    #: Begins every temporary key, and nothing else.
    temporary_key_prefix = "async-temp-files"

    #: How the widget uploads: ``tus`` (needs ``upload_store``) or ``signed`` (``generate_upload_url``).
    transport: Literal["tus", "signed"] = "signed"

    #: How long an unfinished upload can be without a byte, whatever ``UPLOAD_LIFETIME`` says; ``None`` for no limit.
    max_lifetime: timedelta | None = None

    #: Whether a file with the same name is replaced; then a promised name is read at its upload first.
    overwrites = False

    def generate_upload_url(
        self, key: str, field_id: str, *args: Any, **kwargs: Any
    ) -> GenerateUploadUrlResponse | str:
        """Return where a browser sends the file that is to lie at ``key``.

        Args:
            key: The temporary key.
            field_id: The field's id in its registry.
            args, kwargs: Any: ``fields`` and ``conditions`` as in the reference; may be ignored.
        """
        raise NotImplementedError("generate_upload_url must be implemented")

    def generate_download_url(self, key: str, field_id: str, **kwargs: Any) -> str:
        """Return where a browser downloads the file named ``key``.

        Args:
            key: The file's name, or its key until it is promoted.
            field_id: The field's id in its registry.
            kwargs: Any: the field's ``download_params``.
        """
        raise NotImplementedError("generate_download_url must be implemented")

    def move_file(self, from_key: str, to_key: str) -> None:
        """Give the file at ``from_key`` the name ``to_key``; must bear being repeated after it was interrupted.

        A storage that copies may leave the source where it is; see ``source_lifetime``.

        Raises:
            FileExistsError: Another file has that name (where files are not overwritten).
        """
        raise NotImplementedError("move_file must be implemented")

    def hold_source(self, key: str, name: str) -> AbstractContextManager[None]:
        """Keep every other process from moving or returning a file while this one does, with a lock that dies with it.

        This default holds nothing: for storages that have no such lock.

        Args:
            key: Where the upload is.
            name: Where it is to be moved, or was.

        Raises:
            BlockingIOError: Somebody else is at it; it will be tried again.
        """
        return nullcontext()

    def choose_object_name(self, field: Any, filename: str, key: str) -> str:
        """Return where the bytes of a new tus upload go: its key, or at once a permanent name of their own (zero copy).

        Such a name is never taken by anything else (64 random bits), fits ``field.max_length``, and ends in the file's
        true name. A record that takes the upload gets exactly this name, and nothing is moved.

        Args:
            field: The model field (Any: those live above).
            filename: The file's true name.
            key: The upload's key.
        """
        return key

    def source_lifetime(self) -> timedelta | None:
        """Return how long after the promotion the source stays at the key: as long as URLs may have been signed for it.

        ``None``: ``move_file`` leaves no source, and the store of tus uploads no pieces.
        """
        return None

    def forget_source(self, row: journal.AsyncTempFile) -> None:
        """Remove what ``move_file`` left at a promoted upload's key, when no URL can reach it any more; repeatable.

        So with pieces of it that its store may have left behind, also where nothing was copied (zero copy).

        Raises:
            Exception: Anything: it will be tried again.
        """

    def copies_on_move(self, from_key: str, to_key: str) -> bool:
        """Say whether ``move_file`` copies the bytes, so that large files are better moved outside of a request."""
        return True

    def verify_upload(self, key: str, max_size: int | None) -> VerifiedUpload | None:
        """Look at a signed upload, when a form is validated. This default trusts it.

        Args:
            key: Where the upload should lie.
            max_size: The field's limit in bytes; a larger file may be reported or refused.

        Returns:
            ``None`` when it is not there or not complete.

        Raises:
            StoreUnavailable, OSError: Nothing can be said now; the form may be sent again.
        """
        return VerifiedUpload()

    def upload_store(self, records: Records) -> UploadStore | None:
        """Return the store in which tus uploads to this storage are kept; ``None``: no tus."""
        return None

    def identity(self) -> str:
        """Return a text, at most 255 characters, that tells this storage from others that hold other files."""
        return shorten(f"{type(self).__module__}.{type(self).__qualname__}")

    def probe(self) -> list[CheckMessage]:
        """Find out by trying what the service lacks; asked by the check ``async_uploads_buckets``."""
        return []

    def get_url_patterns(self, registry: AsyncFieldRegistry) -> list[URLPattern | URLResolver]:
        """Return the URL patterns that this storage adds to those of a registry."""
        return []

    def generate_temporary_path(self, filename: str, max_length: int | None = None) -> str:
        """Return a new key: ``async-temp-files/2026/11/22/<random>-name.ext``.

        Args:
            filename: The file's true name; the key shows it reduced to ASCII.
            max_length: Limit in characters; the name is truncated before its extension.

        Raises:
            SuspiciousFileOperation: ``max_length`` is too small.
        """
        today = timezone.now().strftime("%Y/%m/%d")
        start = f"{self.temporary_key_prefix}/{today}/{secrets.token_urlsafe(16)}-"
        name = reduce_name(filename)
        try:
            # A component of a path has at most 255 bytes on usual file systems.
            name = truncate_name(name, min(max_length - len(start) if max_length else 200, 200))
        except ValueError as error:
            message = f"A key for {filename!r} does not fit into {max_length} characters; raise the field's max_length."
            raise SuspiciousFileOperation(message) from error
        return start + name

    def is_temporary_path(self, filename: str) -> bool:
        """Say whether a name is that of a temporary file."""
        return bool(filename) and filename.startswith(f"{self.temporary_key_prefix}/")

    def return_file(self, key: str, name: str, length: int | None) -> None:
        """Undo a move that was interrupted, if there was one, so that the upload lies at its key only; repeatable.

        Args:
            key: Where the upload was.
            name: Where it was to be moved.
            length: The upload's length in bytes, where known: a file of another length is not ours.
        """

    def discard_upload(self, row: journal.AsyncTempFile) -> bool:
        """Remove the bytes of an upload that nobody took over; repeatable. A storage that cannot delete keeps them.

        A storage with zero copy looks first whether the object is the upload's own. The row itself is left alone.

        Returns:
            ``False`` when somebody is writing to it; nothing was changed.
        """
        with suppress(NotImplementedError, AttributeError, FileNotFoundError):
            self.delete(row.place)
        return True

    def stored_size(self, name: str) -> int | None:
        """Return the size in bytes of a file by what is stored under this very name; ``None`` where that is unknown."""
        return None

    # Reading before promotion.

    def find_stored_name(self, name: str) -> str:
        """Return the name under which a file lies now: its upload's key until it is promoted."""
        row = journal.find_claim(self.identity(), name)
        return name if row is None else row.place

    def find_elsewhere(self, name: str) -> str | None:
        """Return where else than at ``name`` its file may lie, as the journal says; ``None`` if it knows nothing."""
        row = journal.find_claim(self.identity(), name)
        if row is not None:
            return row.place
        if not self.is_temporary_path(name):
            return None
        row = journal.find_by_key(name)
        if row is None or row.storage != self.identity():
            return None
        if row.is_promoted:
            return row.moved_to_location
        return row.place if row.place != name else None

    def read_from(self, operation: Callable[[str], T], name: str) -> T:
        """Read a file at its name, on a miss where the journal says, then at its name once more.

        Raises:
            FileNotFoundError: It is at none of them.
        """
        if is_without_journal():
            return operation(name)
        places = [self.find_elsewhere(name)] if self.overwrites else []
        with without_journal():
            for place in [*(found for found in places if found), name]:
                with suppress(FileNotFoundError):
                    return operation(place)
        other = self.find_elsewhere(name)
        with without_journal():
            if other is not None:
                with suppress(FileNotFoundError):
                    return operation(other)
            return operation(name)

    def open(self, name: str, mode: str = "rb") -> File[Any]:
        """Open a file; one that is not promoted yet can be read."""
        if not mode.startswith("r") or "+" in mode:
            with without_journal():
                return super().open(name, mode)
        return self.read_from(lambda place: super(AsyncUploadStorage, self).open(place, mode), name)

    def size(self, name: str) -> int:
        """Return a file's size in bytes."""
        return self.read_from(super().size, name)

    def exists(self, name: str) -> bool:
        """Say whether a file has this name, or one is promised it."""
        with without_journal():
            if super().exists(name):
                return True
        if is_without_journal():
            return False
        place = self.find_elsewhere(name)
        with without_journal():
            return place is not None and super().exists(place)
