"""What every step of one endpoint works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from tus_server.config import TusConfig
from tus_server.effects import HookCall, Steps, StoreCall
from tus_server.errors import UploadGone, UploadNotFound
from tus_server.headers import build_http_date
from tus_server.hooks import Hooks
from tus_server.locks.base import Locker
from tus_server.messages import Request
from tus_server.stores.base import UploadStore
from tus_server.uploads import Upload, is_upload_id


@dataclass(frozen=True)
class Context:
    """An endpoint's parts. ``clock`` returns the present time, aware."""

    store: UploadStore
    locker: Locker
    hooks: Hooks
    config: TusConfig
    clock: Callable[[], datetime]

    def next_expiry(self) -> datetime | None:
        """Return when an upload expires whose last byte came now."""
        return None if self.config.lifetime is None else self.clock() + self.config.lifetime


def load(context: Context, request: Request) -> Steps[Upload]:
    """Read the upload that a request names, if it is this client's and alive.

    Raises:
        UploadNotFound: Unknown, or somebody else's.
        UploadGone: Expired (by the clock, whether or not a cleaner ran), terminated, or its bytes are lost.
    """
    if request.upload_id is None or not is_upload_id(request.upload_id):
        raise UploadNotFound()
    upload: Upload = yield StoreCall(context.store.get, request.upload_id)
    yield HookCall(context.hooks.pre_access, request, upload)
    if upload.record.has_expired(context.clock()):
        raise UploadGone("The upload has expired.")
    return upload


def describe(context: Context, upload: Upload) -> tuple[tuple[str, str], ...]:
    """Return the headers that every good answer about an upload carries: its expiry, and what the hooks add."""
    headers = list(context.hooks.response_headers(upload).items())
    if upload.record.expiry is not None:
        headers.append(("Upload-Expires", build_http_date(upload.record.expiry)))
    return tuple(headers)
