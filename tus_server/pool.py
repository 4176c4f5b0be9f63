"""Where calls may wait: a bounded pool of threads, with Django's care for database connections around each call."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from typing import Any, TypeAlias

from asgiref.sync import sync_to_async
from django.db import close_old_connections

from tus_server.effects import Call
from tus_server.errors import StoreUnavailable

logger = logging.getLogger(__name__)

#: How many calls to stores, databases and hooks may wait at the same time, in a process: those of requests that decide
#: about themselves, and those that move bodies. The first never wait for a storage that is slow for the second.
ADMISSION_THREADS = 4
BODY_THREADS = 8


#: What is entered around the calls of a request, in their thread.
Around: TypeAlias = Callable[[], AbstractContextManager[object]]


class CallPool:
    """Where calls may wait: a bounded pool of threads, with Django's care for database connections around each.

    Args:
        threads: How many.
        name: What their names begin with.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        # Made once: asgiref examines the function whenever one is made.
        self._hop = sync_to_async(_Once.run, thread_sensitive=False, executor=self._executor)

    # Any: a call returns whatever its function does.
    async def run(self, call: Call, around: Around = nullcontext) -> Any:
        """Run a call; see ``drivers.Runner``. Context variables follow, as with Django's own adapters."""
        once = _Once(call, around)
        while not once.is_done:
            # Cancelled only by a loop that closes: a call that has begun is waited for, another one begins now.
            with suppress(asyncio.CancelledError):
                await self._hop(once)
        return once.give()

    def close(self) -> None:
        """Wait for the calls under way and end the threads."""
        self._executor.shutdown()


class _Once:
    """A call that runs once, however often it is handed to a thread."""

    def __init__(self, call: Call, around: Around) -> None:
        self._call = call
        self._around = around
        self._lock = threading.Lock()
        self._result: Any = None
        self._error: BaseException | None = None
        self.is_done = False

    def run(self) -> None:
        with self._lock:
            if self.is_done:
                return
            try:
                self._result = self._run()
            except asyncio.CancelledError as error:
                self._error = StoreUnavailable(f"{self._call} was cancelled: {error}")
            except BaseException as error:
                self._error = error
            self.is_done = True

    # Any: as of ``CallPool.run``.
    def give(self) -> Any:
        """Return what the call returned, or raise what it raised."""
        if self._error is not None:
            raise self._error
        return self._result

    # Any: as of ``CallPool.run``.
    def _run(self) -> Any:
        with ExitStack() as stack:
            stack.callback(_quietly, close_old_connections)
            try:
                close_old_connections()
                around = ExitStack()
                around.enter_context(self._around())
            except Exception as error:
                return self._call.refuse(error)
            # What was done stays done, whatever the exit says.
            stack.callback(_quietly, around.close)
            return self._call.run()


def _quietly(function: Callable[[], object]) -> None:
    try:
        function()
    except Exception:
        logger.exception("What follows the calls of an upload failed")
