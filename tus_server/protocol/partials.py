"""Which uploads a final one is made of: the URLs of ``Upload-Concat`` as uploads of ours.

A URL is taken apart as a URL and compared with the address of this very endpoint; nothing is fetched. Whatever is not a
living partial upload of this client refuses the whole request, before anything is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from tus_server.effects import Steps, StoreCall
from tus_server.errors import BadRequest, UploadGone, UploadNotFound
from tus_server.messages import Request
from tus_server.protocol.context import Context, load
from tus_server.protocol.finishing import ensure_finished
from tus_server.uploads import Upload, UploadRecord, is_upload_id

_PORTS = {"http": 80, "https": 443}


def resolve_url(request: Request, url: str) -> str:
    """Return the id of the upload that a URL means: absolute, path-absolute, or relative to the endpoint.

    Raises:
        BadRequest: It is none of this endpoint.
    """
    try:
        parts = urlsplit(urljoin(request.base_path, url))
        is_ours = _is_of_this_server(request, parts)
    except ValueError:
        is_ours = False
    if is_ours:
        base, _, upload_id = unquote(parts.path).removesuffix("/").rpartition("/")
        if f"{base}/" == unquote(request.base_path) and is_upload_id(upload_id):
            return upload_id
    raise BadRequest("Upload-Concat must name uploads of this endpoint.", code="invalid_concat")


def _is_of_this_server(request: Request, parts: SplitResult) -> bool:
    """Compare a URL's host with what the client, or a proxy for it, calls this server.

    Who lies about that gains nothing: what counts is the upload's id, and whose it is.
    """
    if not parts.netloc:
        return not parts.scheme
    if parts.scheme not in ("", *_PORTS):
        return False
    named = [request.headers.get(name) or "" for name in ("Host", "X-Forwarded-Host")]
    hosts = [urlsplit(f"//{host.strip()}") for value in named for host in value.split(",") if host.strip()]
    port = parts.port or _PORTS.get(parts.scheme)
    # Proxies like to leave the port away; then it is not known.
    return any(host.hostname == parts.hostname and host.port in (None, port) for host in hosts)


def load_partials(request: Request, context: Context, urls: Sequence[str]) -> Steps[list[Upload]]:
    """Read the uploads that a client wants to put together, in its order; one may come twice.

    Raises:
        BadRequest: A URL is not of this endpoint, or its upload is not a partial one.
        UploadNotFound: An upload is unknown, expired, or somebody else's.
        StoreUnavailable: An upload is received and cannot be finished right now.
    """
    ids = [resolve_url(request, url) for url in urls]
    found: dict[str, Upload] = {}
    for upload_id in dict.fromkeys(ids):
        try:
            upload = yield from load(context, replace(request, upload_id=upload_id))
        except (UploadNotFound, UploadGone) as error:
            number = ids.index(upload_id) + 1
            message = f"There is no upload at the URL number {number} of Upload-Concat."
            raise UploadNotFound(message, code="partial_not_found") from error
        if not upload.record.is_partial:
            number = ids.index(upload_id) + 1
            raise BadRequest(f"The URL number {number} of Upload-Concat is not a partial upload.", code="not_partial")
        found[upload_id] = yield from ensure_finished(context, upload)
    return [found[upload_id] for upload_id in ids]


def read_partials(context: Context, final: UploadRecord) -> Steps[list[Upload]]:
    """Read the uploads that a final one is made of, as they stand now; who may use them was asked at its creation.

    Raises:
        UploadGone: One of them is no more, so the final can never be complete.
        StoreUnavailable: One is received and cannot be finished right now.
    """
    found: dict[str, Upload] = {}
    for upload_id in dict.fromkeys(final.partials):
        try:
            upload: Upload = yield StoreCall(context.store.get, upload_id)
        except (UploadNotFound, UploadGone) as error:
            raise UploadGone("A part of this upload is gone.") from error
        if not upload.is_finished and upload.record.has_expired(context.clock()):
            raise UploadGone("A part of this upload has expired.")
        found[upload_id] = yield from ensure_finished(context, upload)
    return [found[upload_id] for upload_id in final.partials]


def total_length(partials: Sequence[Upload]) -> int | None:
    """Return how many bytes uploads have together, ``None`` while the length of one is deferred."""
    lengths = [partial.length for partial in partials if partial.length is not None]
    return sum(lengths) if len(lengths) == len(partials) else None
