"""What Django loads and users import from; nothing below imports this module."""

from async_uploads.fields import AsyncFieldFile, AsyncFileField, AsyncImageField
from async_uploads.journal import AsyncTempFile, UploadPart, UploadState
from async_uploads.values import AsyncFileInputData, default_max_length, default_max_size

__all__ = [
    "AsyncFieldFile",
    "AsyncFileField",
    "AsyncFileInputData",
    "AsyncImageField",
    "AsyncTempFile",
    "UploadPart",
    "UploadState",
    "default_max_length",
    "default_max_size",
]
