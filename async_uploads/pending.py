"""What ``cleaned_data`` holds for a file field: an upload that behaves like one of Django's uploaded files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

from django.core.files.base import File
from django.core.files.uploadedfile import UploadedFile

from async_uploads import sniffing
from async_uploads.journal import AsyncTempFile
from async_uploads.values import AsyncFileInputData

if TYPE_CHECKING:
    _UploadedFile = UploadedFile[Any]
else:
    _UploadedFile = UploadedFile


class PendingUpload(_UploadedFile):
    """A finished upload that no record owns yet, read through its storage when it is read.

    Attributes:
        data: The value to assign to the model's field.
        row: Its row in the journal.
    """

    def __init__(self, row: AsyncTempFile, data: AsyncFileInputData, storage: Any, size: int | None = None) -> None:
        self.row = row
        self.data = data
        self._storage = storage
        self._handle: IO[bytes] | File[Any] | None = None
        self._known_size = row.length if size is None else size
        content_type = row.media_type or sniffing.guess_type(row.original_filename) or sniffing.UNKNOWN
        super().__init__(None, row.original_filename, content_type)

    # ``FileProxyMixin`` reads, seeks and tells through ``file``.
    @property
    def file(self) -> Any:  # Any: whatever the storage opens
        """The open file; opened by the first look at it."""
        if self._handle is None:
            self._handle = self._storage.open(self.row.place, "rb")
        return self._handle

    @file.setter
    def file(self, value: Any) -> None:
        self._handle = value

    @property
    def size(self) -> int:
        """The size in bytes, as recorded when the upload was finished, else as the storage says."""
        if self._known_size is None:
            self._known_size = int(self._storage.size(self.row.place))
        return self._known_size

    @size.setter
    def size(self, value: int | None) -> None:
        if value is not None:
            self._known_size = value

    @property
    def known_size(self) -> int | None:
        """The size in bytes as far as it was recorded; ``None`` where only the storage could tell, perhaps."""
        return self._known_size

    @property
    def closed(self) -> bool:
        """Whether nothing is open; reading opens it."""
        return self._handle is None or bool(self._handle.closed)

    def open(self, mode: str | None = None, *args: Any, **kwargs: Any) -> PendingUpload:
        """Open the file from its beginning, for reading."""
        if self._handle is None or self._handle.closed:
            self._handle = self._storage.open(self.row.place, mode or "rb")
        self._handle.seek(0)
        return self

    def close(self) -> None:
        """Close the file; it can be opened again."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def chunks(self, chunk_size: int | None = None) -> Iterator[bytes]:
        """Read the whole file in pieces of at most ``chunk_size`` bytes (64 KiB)."""
        self.open()
        while piece := self.file.read(chunk_size or self.DEFAULT_CHUNK_SIZE):
            yield piece

    def __del__(self) -> None:
        # Django closes the files of a request at its end; nobody does so for these.
        if getattr(self, "_handle", None) is not None:
            self.close()

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<PendingUpload: {self.name}>"
