"""What the user of the engine may decide or learn, named as in tusd.

A hook refuses by raising a ``TusError``; it has then changed nothing. Hooks run where store calls run: in place under
WSGI, in the bounded pool under ASGI, so they may use the database.
"""

from __future__ import annotations

from collections.abc import Mapping

from tus_server.messages import Request
from tus_server.uploads import Upload, UploadRecord


class Hooks:
    """Hooks that allow everything and add nothing; override what you need."""

    def pre_create(self, request: Request, record: UploadRecord) -> UploadRecord:
        """Decide over a creation, and complete its record (object name, expiry, facts). Nothing is stored yet."""
        return record

    def post_create(self, request: Request, upload: Upload) -> None:
        """Learn that an upload was created, before its first byte."""

    def pre_access(self, request: Request, upload: Upload) -> None:
        """Decide whether this client may see or change the upload; raise ``UploadNotFound`` for a stranger."""

    def pre_terminate(self, request: Request, upload: Upload) -> None:
        """Decide over a termination."""

    def post_terminate(self, request: Request, upload: Upload) -> None:
        """Learn that an upload was terminated and its bytes removed."""

    def pre_finish(self, upload: Upload) -> None:
        """Look at a received upload, durable but not yet finished. May run again after a crash.

        A ``TusError`` refuses it: it is answered, the upload stays unfinished.
        """

    def post_finish(self, upload: Upload) -> None:
        """Learn that an upload was finished. At most once, and not at all where the process dies just before.

        What must happen belongs into ``pre_finish``, which runs again until it came through, or follows the records.
        """

    def response_headers(self, upload: Upload) -> Mapping[str, str]:
        """Return headers to add to the answers of POST, HEAD and PATCH. Must not wait for anything."""
        return {}
