"""Every storage call and statement is a point; a process is told at which it breaks, and how."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal
from unittest import mock

from django.core.files.storage import default_storage
from django.db import OperationalError, connection

from tests.async_uploads.faults import clouds

#: What storages are asked, and what that on disk asks of the operating system; those in the cloud send requests.
METHODS = (
    "copies_on_move",
    "discard_upload",
    "exists",
    "forget_source",
    "get_available_name",
    "hold_source",
    "move_file",
    "return_file",
    "stored_size",
)
CALLS = ("chmod", "fsync", "link", "mkdir", "replace", "sendfile", "unlink")


@dataclass(frozen=True)
class Fault:
    """Where a process breaks: at the n-th point, before its effect or after it, by ``kill -9`` or by an error."""

    number: int
    side: Literal["before", "after"]
    mode: Literal["kill", "error"]


class Points:
    """Counts points; breaks at one of them, and lets somebody look at each.

    Args:
        fault: Where to break.
        look: Called before and after each point.
    """

    def __init__(self, fault: Fault | None = None, look: Callable[[], None] | None = None) -> None:
        self.fault, self.look = fault, look
        self.names: list[str] = []
        self.statements = 0

    @contextmanager
    def installed(self) -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(connection.execute_wrapper(self.execute))
            for name in ("commit", "rollback"):
                ending = self.wrap(name.upper(), getattr(connection, name))
                stack.enter_context(mock.patch.object(connection, name, ending))
            stack.enter_context(mock.patch.object(connection, "_set_autocommit", self.begin(connection)))
            storage = (
                default_storage.__class__
                if not hasattr(default_storage, "_wrapped")
                else type(default_storage._wrapped)
            )
            for name in METHODS:
                stack.enter_context(mock.patch.object(storage, name, self.wrap(name, getattr(storage, name))))
            if clouds.current is not None:
                stack.enter_context(clouds.current.broken(self.wrap))
            for name in CALLS if clouds.current is None else ():
                stack.enter_context(mock.patch.object(os, name, self.wrap(f"os.{name}", getattr(os, name))))
            yield

    def begin(self, database: Any) -> Callable[[bool], None]:
        """Return what opens a transaction where the driver does so (not SQLite's, which is sent a statement)."""
        set_autocommit = database._set_autocommit

        def call(autocommit: bool) -> None:
            if autocommit:  # afterwards; nothing depends on it
                set_autocommit(autocommit)
            else:
                self.pass_through("BEGIN", lambda: set_autocommit(autocommit), is_statement=True)

        return call

    def execute(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        return self.pass_through(sql[:60], lambda: execute(sql, params, many, context), is_statement=True)

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            return self.pass_through(name, lambda: function(*args, **kwargs), is_statement=name.isupper())

        return call

    def pass_through(self, name: str, operation: Callable[[], Any], is_statement: bool) -> Any:
        number = len(self.names)
        self.names.append(name)
        self.statements += is_statement
        # A BEGIN or SAVEPOINT that took effect and failed all the same is a lost connection, which is a kill.
        opens = name.startswith(("BEGIN", "SAVEPOINT"))
        if number == 0 or clouds.current is None:
            self.pause()  # in the cloud a look takes a while, and nothing happens between two points
        if self.fault and self.fault.number == number and (self.fault.side == "before" or opens):
            self.strike(is_statement)
        try:
            return operation()
        finally:  # also of a call that fails as it should: a link between two file systems
            if self.fault and self.fault.number == number and self.fault.side == "after":
                self.strike(is_statement)
            self.pause()

    def pause(self) -> None:
        if self.look is not None:
            look, self.look = self.look, None  # looking is no point
            look()
            self.look = look

    def strike(self, is_statement: bool) -> None:
        assert self.fault is not None
        if self.fault.mode == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if is_statement:
            raise OperationalError("injected")
        raise OSError(errno.EIO, "injected") if clouds.current is None else clouds.current.fail()
