"""Engines with one mistake each, which the conformance suite must find: it is as good as the mistakes that it rejects.

A mistake is a step of the protocol put around the right one. ``build_broken_engine`` makes an engine with it;
``endpoints`` serves each at the address that is its name.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from tus_server.effects import Effect, Receive, Received, Steps, StoreCall
from tus_server.engine import Engine, Step
from tus_server.errors import BodyIncomplete, OffsetConflict, TusError
from tus_server.headers import Headers, parse_offset
from tus_server.messages import Request, Response
from tus_server.protocol.context import Context
from tus_server.protocol.finishing import finish
from tus_server.protocol.locking import acquire
from tus_server.stores.base import DefersLength, Sink, UploadStore
from tus_server.uploads import Upload, UploadRecord

Mistake = Callable[[Step, Request, Context], Steps[Response]]


def with_header(request: Request, name: str, value: str) -> Request:
    """Return the request with one header replaced."""
    kept = [(key, one) for key, one in request.headers if key != name.lower()]
    return replace(request, headers=Headers([*kept, (name, value)]))


def take_plus_zero(step: Step, request: Request, context: Context) -> Steps[Response]:
    """Parse the offset with ``int``, which also takes ``+0`` and ``0_0``."""
    with suppress(ValueError):
        offset = int(request.headers.get("Upload-Offset") or "missing")
        request = with_header(request, "Upload-Offset", str(offset))  # "-0" becomes "0" too
    return (yield from step(request, context))


def finish_on_a_cut(step: Step, request: Request, context: Context) -> Steps[Response]:
    """Take the end of the connection for the end of the upload."""
    try:
        return (yield from step(request, context))
    except BodyIncomplete:
        upload: Upload = yield StoreCall(context.store.get, request.upload_id)
        yield from finish(context, upload)
        raise


def take_a_cut_for_the_end(step: Step, request: Request, context: Context) -> Steps[Response]:
    """Take the end of the stream for the end of a body without Content-Length, as a naive reader of chunks does."""
    return (yield from altered(step(request, context), lambda effect: effect, _mistaken))


def keep_an_unverified_chunk(step: Step, request: Request, context: Context) -> Steps[Response]:
    """Answer rightly to a body whose checksum does not match, or that was cut, but keep its bytes."""
    received = bytearray()
    try:
        return (yield from altered(step(request, context), lambda effect: _overheard(effect, received)))
    except TusError:
        if received and "Upload-Checksum" in request.headers and request.upload_id is not None:
            offset = parse_offset(request.headers.get("Upload-Offset"))
            yield from _append(context, request.upload_id, offset, bytes(received))
        raise


def move_the_offset_on_409(step: Step, request: Request, context: Context) -> Steps[Response]:
    """Tell the client of the conflict, and append its bytes all the same."""
    try:
        return (yield from step(request, context))
    except OffsetConflict as conflict:
        yield from step(with_header(request, "Upload-Offset", str(conflict.offset)), context)
        raise


def take_an_over_long_body(step: Step, request: Request, context: Context) -> Steps[Response]:
    """Append as if no length had been declared; finish when it is reached or passed."""
    answer = yield from step(request, replace(context, store=_BoundlessStore(context.store)))
    upload: Upload = yield StoreCall(context.store.get, request.upload_id)
    if upload.length is not None and upload.offset >= upload.length and not upload.is_finished:
        yield from finish(context, upload)
    return answer


def lose_the_metadata_echo(step: Step, request: Request, context: Context) -> Steps[Response]:
    """Answer HEAD without ``Upload-Metadata``."""
    answer = yield from step(request, context)
    return replace(answer, headers=tuple(pair for pair in answer.headers if pair[0] != "Upload-Metadata"))


#: The mistakes by name, each with the method whose step it spoils.
MISTAKES: Final[dict[str, tuple[str, Mistake]]] = {
    "takes-plus-zero": ("PATCH", take_plus_zero),
    "finishes-on-a-cut": ("PATCH", finish_on_a_cut),
    "takes-a-cut-for-the-end": ("PATCH", take_a_cut_for_the_end),
    "keeps-an-unverified-chunk": ("PATCH", keep_an_unverified_chunk),
    "moves-the-offset-on-409": ("PATCH", move_the_offset_on_409),
    "takes-an-over-long-body": ("PATCH", take_an_over_long_body),
    "loses-the-metadata-echo": ("HEAD", lose_the_metadata_echo),
}


class BrokenEngine(Engine):
    """An engine with one of ``MISTAKES``; the other arguments are those of ``Engine``."""

    def __init__(self, mistake: str, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._method, self._mistake = MISTAKES[mistake]

    def _step(self, request: Request) -> Step:
        step = super()._step(request)
        if request.method != self._method:
            return step
        return lambda request, context: self._mistake(step, request, context)


def altered(
    steps: Steps[Response],
    change: Callable[[Effect], Effect],
    change_answer: Callable[[Any], Any] = lambda answer: answer,
) -> Steps[Response]:
    """Run a step with its effects changed on the way to the driver, and the driver's answers on the way back."""
    answer: Any = None
    error: BaseException | None = None
    while True:
        try:
            effect = steps.send(answer) if error is None else steps.throw(error)
        except StopIteration as stop:
            response: Response = stop.value
            return response
        answer, error = None, None
        try:
            answer = change_answer((yield change(effect)))
        except BaseException as raised:
            error = raised


def _overheard(effect: Effect, received: bytearray) -> Effect:
    return replace(effect, sink=_Overhearing(effect.sink, received)) if isinstance(effect, Receive) else effect


def _mistaken(answer: Any) -> Any:
    is_cut = isinstance(answer, Received) and answer.end == "vanished"
    return replace(answer, end="finished") if is_cut else answer


class _Overhearing(Sink):
    """Passes bytes on, and remembers them."""

    def __init__(self, sink: Sink, received: bytearray) -> None:
        self._sink = sink
        self._received = received

    def write(self, data: memoryview) -> None:
        self._received += data
        self._sink.write(data)

    def settle(self) -> int:
        return self._sink.settle()


def _append(context: Context, upload_id: str, offset: int, data: bytes) -> Generator[Effect, Any, None]:
    lease = yield from acquire(context, upload_id, "append")
    try:
        upload: Upload = yield StoreCall(context.store.get, upload_id)
        sink: Sink = yield StoreCall(context.store.open_sink, upload, offset)
        yield StoreCall(sink.write, memoryview(data))
        yield StoreCall(sink.settle)
    finally:
        yield StoreCall(lease.release)


class _BoundlessStore(UploadStore, DefersLength):
    """Shows every upload as one whose length is not known."""

    def __init__(self, store: UploadStore) -> None:
        self._store = store
        self.records = store.records

    def create(self, record: UploadRecord) -> Upload:
        return self._store.create(record)

    def load(self, record: UploadRecord) -> Upload:
        upload = self._store.load(record)
        return replace(upload, record=replace(upload.record, length=None))

    def open_sink(self, upload: Upload, offset: int, expected: int | None = None) -> Sink:
        return self._store.open_sink(upload, offset, expected)

    def finish(self, upload: Upload, now: datetime) -> Upload:
        return self._store.finish(upload, now)

    def sync(self, upload: Upload) -> None:
        self._store.sync(upload)

    def read(self, upload: Upload, start: int, count: int) -> bytes:
        return self._store.read(upload, start, count)

    def declare_length(self, upload: Upload, length: int) -> Upload:
        return upload

    def scratch_directory(self, record: UploadRecord) -> Path | None:
        return self._store.scratch_directory(record)
