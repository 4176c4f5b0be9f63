"""POST of a final upload, and what becomes of it (extensions "concatenation" and "concatenation-unfinished").

A final is complete when its partials are. Whoever meets it then puts it together under its lease, piece by piece: the
POST that created it, else any later HEAD, also after a crash. Until that is done no answer gives an offset. Partials
stay as they are, for other finals, until they expire.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tus_server.effects import HookCall, ReadBody, Steps, StoreCall
from tus_server.errors import BadRequest, Forbidden, Locked, StoreUnavailable, TusError
from tus_server.headers import parse_concat
from tus_server.messages import Request, Response
from tus_server.protocol.context import Context, describe
from tus_server.protocol.finishing import acquire_now, finish
from tus_server.protocol.lengths import body_length, require_within, size_limit
from tus_server.protocol.partials import load_partials, read_partials, total_length
from tus_server.stores.base import Concatenates, Terminates
from tus_server.uploads import Upload, UploadRecord


def declared_urls(request: Request, context: Context) -> tuple[str, ...] | None:
    """Return the URLs that ``Upload-Concat`` names: none for a partial upload, ``None`` without the header.

    Raises:
        BadRequest: The header is malformed, or the store cannot do it.
    """
    text = request.headers.get("Upload-Concat")
    if text is None:
        return None
    if not isinstance(context.store, Concatenates):
        raise BadRequest("Concatenation is not offered here.", code="unsupported_extension")
    return parse_concat(text)


def create_final(request: Request, context: Context, record: UploadRecord, urls: tuple[str, ...]) -> Steps[Response]:
    """Create an upload that is made of others, put it together if they are all finished, and answer 201.

    Args:
        record: The new upload's record, without its length.
        urls: The partial uploads, as the client names them.

    Raises:
        BadRequest: There is a length or a body, or a URL is not that of a partial upload here.
        UploadNotFound: A partial upload is unknown, expired, or somebody else's.
        TooLarge: Together they exceed a limit.
        TusError: Whatever a hook refuses with, or the store fails with. No upload is left in any of these cases.
    """
    yield from _refuse_more(request)
    partials = yield from load_partials(request, context, urls)
    length = total_length(partials)
    require_within(context.config.max_size, length)
    record = replace(record, length=length, partials=tuple(partial.id for partial in partials))
    record = yield HookCall(context.hooks.pre_create, request, record)
    require_within(size_limit(context, record), length)
    upload: Upload = yield StoreCall(context.store.create, record)
    yield HookCall(context.hooks.post_create, request, upload)
    try:
        upload = yield from complete_final(context, upload, partials)
    except TusError:
        # Nobody knows its URL, and a repeated request creates another one.
        if isinstance(context.store, Terminates):
            yield StoreCall(context.store.terminate, upload)
        raise
    headers = [("Location", request.base_path + upload.id)]
    if upload.is_finished:
        headers.append(("Upload-Offset", str(upload.offset)))
    return Response(201, (*headers, *describe(context, upload)))


def complete_final(context: Context, upload: Upload, partials: Sequence[Upload] | None = None) -> Steps[Upload]:
    """Finish an upload that is made of others, if they are all finished; goes on where an earlier try was interrupted.

    Args:
        upload: The final.
        partials: What it is made of, where the caller has just read that.

    Returns:
        The upload: finished; or as it was, with its length as far as that is known, while a partial is unfinished.

    Raises:
        UploadGone: A partial is no more.
        StoreUnavailable: Somebody else is putting it together at this moment, or that failed.
        TusError: 4xx, when the finished object was refused.
    """
    if upload.is_finished:
        return upload
    if partials is None:
        partials = yield from read_partials(context, upload.record)
    length = total_length(partials)
    if not all(partial.is_finished for partial in partials):
        return replace(upload, record=replace(upload.record, length=length))
    require_within(size_limit(context, upload.record), length)
    try:
        lease = yield from acquire_now(context, upload.id)
        try:
            upload = yield StoreCall(context.store.get, upload.id)
            if upload.is_finished:
                return upload
            store = context.store
            assert isinstance(store, Concatenates)
            while not upload.is_received:
                if (yield StoreCall(lease.wanted)) == "terminate":
                    raise Locked()
                before = upload.offset
                upload = yield StoreCall(store.concatenate, upload, partials)
                if upload.offset == before and not upload.is_received:
                    raise StoreUnavailable("The upload cannot be put together right now.")
            return (yield from finish(context, upload))
        finally:
            yield StoreCall(lease.release)
    except Locked as error:
        raise StoreUnavailable("The upload is being put together.", code="finishing") from error


def refuse_bytes(upload: Upload) -> None:
    """Refuse to append to an upload that is made of others.

    Raises:
        Forbidden: It is.
    """
    if upload.record.is_final:
        raise Forbidden("An upload that is made of others takes no bytes.", code="final_upload")


def _refuse_more(request: Request) -> Steps[None]:
    """A final upload has the length and the bytes of its partials, and none of its own."""
    for name in ("Upload-Length", "Upload-Defer-Length", "Upload-Checksum"):
        if name in request.headers:
            raise BadRequest(f"{name} makes no sense with Upload-Concat: final.", code="invalid_concat")
    length = body_length(request)
    if length or (length is None and (yield ReadBody(1))):
        raise BadRequest("A final upload takes no body.", code="invalid_concat")
