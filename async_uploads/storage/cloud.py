"""What the storages in the cloud share: looking at objects, reading before promotion, permanent names at creation.

A subclass on a storage of django-storages provides the service's half: ``_stat``, ``_fetch``, ``_remove_object``,
``is_private``. Objects are copied on the service's side; a source stays until no URL signed for it can work any more.
"""

from __future__ import annotations

import logging
import posixpath
import secrets
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from gzip import GzipFile
from hashlib import sha256
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from django.core.exceptions import SuspiciousFileOperation
from django.core.files import File
from django.db.models import FileField

from async_uploads import conf, journal, sniffing
from async_uploads.storage.base import AsyncUploadStorage, VerifiedUpload, is_without_journal
from async_uploads.storage.ranged import RangedFile
from async_uploads.values import reduce_name, truncate_name

if TYPE_CHECKING:
    from tus_server.stores.base import Records, UploadStore

logger = logging.getLogger("async_uploads.storage")

#: What permanent names of uploads without a copy hold: 13 of 32 characters, 65 random bits.
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
_RANDOM_LENGTH = 13


@dataclass(frozen=True)
class ObjectFacts:
    """What the service says about an object.

    Attributes:
        size: In bytes.
        etag: As the service writes it, with its quotes.
        media_type: Its Content-Type.
        metadata: The user's metadata.
        encoding: Its Content-Encoding.
    """

    size: int
    etag: str
    media_type: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    encoding: str = ""


def mark_source(key: str) -> str:
    """Return what a copy carries in its metadata, so that it is known as the copy of this very upload."""
    return sha256(key.encode()).hexdigest()[:32]


class CloudAsyncUploadStorage(AsyncUploadStorage):
    """Base of the storages in the cloud; put it before the one of django-storages.

    Options besides those of django-storages:

    * ``transport``: what the widget uses, ``tus`` (resumable, the default) or ``signed`` (one request to the service).
    * ``zero_copy``: whether tus uploads go to a permanent name at once; ``None`` decides by ``is_private`` and
      ``overwrites``.
    """

    transport: Literal["tus", "signed"] = "tus"
    zero_copy: bool | None = None

    def __init__(self, *args: Any, **options: Any) -> None:  # Any: the options of django-storages
        super().__init__(*args, **options)
        self._forget_connections()

    def get_default_settings(self) -> dict[str, Any]:
        """Return the options, with their values from Django's settings; see django-storages."""
        settings: dict[str, Any] = super().get_default_settings()  # type: ignore[misc]  # of django-storages, untyped
        return {**settings, "transport": "tus", "zero_copy": None}

    def __getstate__(self) -> dict[str, Any]:
        inherited = getattr(super(), "__getstate__", None)
        state = dict(inherited() if inherited is not None else self.__dict__)
        for name in ("_stores", "_lock"):
            state.pop(name, None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        inherited = getattr(super(), "__setstate__", None)
        if inherited is not None:
            inherited(state)
        else:
            self.__dict__.update(state)
        self._forget_connections()

    def _forget_connections(self) -> None:
        """Start without what belongs to one process."""
        self._lock = Lock()
        self._stores: dict[Records, UploadStore] = {}

    # The service's half.

    @abstractmethod
    def is_private(self) -> bool:
        """Say whether nobody can read an object without a URL that was signed for it."""

    @abstractmethod
    def _stat(self, name: str) -> ObjectFacts | None:
        """Return what lies at this very name, in one request; ``None`` for nothing."""

    @abstractmethod
    def _fetch(self, name: str, start: int, count: int) -> tuple[bytes, ObjectFacts]:
        """Return up to ``count`` bytes from ``start`` and the object's facts, in one request (two for an empty object).

        Raises:
            FileNotFoundError: Nothing lies at this very name.
        """

    @abstractmethod
    def _remove_object(self, name: str, etag: str = "") -> None:
        """Delete what lies at this very name; with ``etag`` only that. What is not there is no error."""

    # Uploads.

    def _find_store(self, records: Records, build: Callable[[], UploadStore]) -> UploadStore:
        """Return the one store of this process for these records: writers and first bytes are remembered in it."""
        with self._lock:
            if records not in self._stores:
                self._stores[records] = build()
            return self._stores[records]

    def verify_upload(self, key: str, max_size: int | None) -> VerifiedUpload | None:
        """Look at a signed upload by one request, which brings its first bytes along: they tell its type."""
        try:
            head, facts = self._fetch(key, 0, sniffing.HEAD_SIZE)
        except FileNotFoundError:
            return None
        return VerifiedUpload(facts.size, sniffing.detect(head, key), facts.etag)

    def choose_object_name(self, field: Any, filename: str, key: str) -> str:
        """Return a permanent name, ``<upload_to>/<65 random bits>/<name>``, where no copy is needed; else the key."""
        if not self.takes_zero_copy(field):
            return key
        limit = min(field.max_length or journal.KEY_LENGTH, journal.KEY_LENGTH)
        try:
            name = field.generate_filename(None, filename)
        except SuspiciousFileOperation:
            name = field.generate_filename(None, reduce_name(filename))
        directory, last = posixpath.split(name)
        token = "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_LENGTH))
        start = posixpath.join(directory, token, "")
        try:
            return start + truncate_name(last, limit - len(start))
        except ValueError:
            return key  # the column is too short; the copy's name has no random part

    def takes_zero_copy(self, field: Any) -> bool:
        """Say whether a field's uploads may go to their permanent names at once.

        Never where ``upload_to`` asks the record, which does not exist yet. By default only where objects are private
        (an upload that nobody submits would be public) and never overwritten.
        """
        if callable(field.upload_to) or type(field).generate_filename is not FileField.generate_filename:
            return False
        return bool(self.zero_copy) if self.zero_copy is not None else self.is_private() and not self.overwrites

    def is_zero_copy(self, row: journal.AsyncTempFile) -> bool:
        """Say whether an upload lies at its permanent name."""
        return row.place != row.key

    def copies_on_move(self, from_key: str, to_key: str) -> bool:
        """Say whether there is something to be copied."""
        return from_key != to_key

    def source_lifetime(self) -> timedelta:
        """Return how long URLs work that were signed for an upload, at most."""
        return timedelta(seconds=max(conf.get("UPLOAD_URL_EXPIRY"), conf.get("DOWNLOAD_URL_EXPIRY")))

    def forget_source(self, row: journal.AsyncTempFile) -> None:
        """Delete what lies at the key of a promoted upload."""
        if row.place != row.moved_to_location:
            self._remove_object(row.place)

    def return_file(self, key: str, name: str, length: int | None) -> None:
        """Delete the copy that an interrupted move made, if it is ours; the upload still lies at its key."""
        if key == name:
            return
        facts = self._stat(name)
        if facts is not None and self._is_copy(facts, key):
            self._remove_object(name, facts.etag)

    def remove_late_copy(self, row: journal.AsyncTempFile) -> None:
        """Delete what a copy left that came in after the claim was given back, whose name the row remembers."""
        if row.moved_to_location:
            self.return_file(row.place, row.moved_to_location, row.length)

    def _is_copy(self, facts: ObjectFacts, key: str) -> bool:
        """Say whether an object is the copy that a move made of an upload."""
        return facts.metadata.get(self.source_mark) == mark_source(key)

    #: Under which name a copy's metadata tells what it is a copy of; some services allow no hyphens.
    source_mark = "async-upload-source"

    # Files.

    def stored_size(self, name: str) -> int | None:
        """Return the size in bytes of what lies at this very name."""
        facts = self._stat(name)
        return None if facts is None else facts.size

    def size(self, name: str) -> int:
        """Return a file's size in bytes; one that is not promoted yet has it too.

        Raises:
            FileNotFoundError: There is no such file.
        """
        return self.read_from(self._size, name)

    def _size(self, name: str) -> int:
        facts = self._stat(name)
        if facts is None:
            raise FileNotFoundError(f"There is no object {name}")
        return facts.size

    def exists(self, name: str) -> bool:
        """Say whether a file has this name, or one is promised it."""
        if self._stat(name) is not None:
            return True
        place = None if is_without_journal() else self.find_elsewhere(name)
        return place is not None and place != name and self._stat(place) is not None

    def _open(self, name: str, mode: str = "rb") -> File[Any]:
        """Open an object; for reading bytes it is fetched piece by piece, and unpacked where the storage packs.

        Raises:
            FileNotFoundError: There is no such object.
        """
        if mode != "rb":
            opened: File[Any] = super()._open(name, mode)  # type: ignore[misc]  # of django-storages, untyped
            return opened
        head, facts = self._fetch(name, 0, 2 * sniffing.HEAD_SIZE)
        file: Any = RangedFile(facts.size, lambda start, count: self._fetch(name, start, count)[0], head)
        if facts.encoding == "gzip" and getattr(self, "gzip", False):
            file = GzipFile(fileobj=file, mode="rb")
        return File(file, name)

    def url(self, name: str | None, *args: Any, **options: Any) -> str:
        """Return the service's address of a file, signed where that is switched on; before promotion its upload's."""
        if name and not is_without_journal():
            name = self.find_elsewhere(name) or name
        return str(super().url(name, *args, **options))

    def find_stored_name(self, name: str) -> str:
        """Return the name under which a file lies now."""
        return self.find_elsewhere(name) or name
