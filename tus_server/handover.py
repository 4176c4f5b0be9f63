"""uvicorn's connection, lent to us for the length of one body, and given back at any byte of it.

uvicorn offers nothing of the kind, so this leans on its private attributes: only for versions whose source was read
(``_VERSIONS``), only where every object is of the class and in the state that we know, and otherwise not at all.

* Lending: the transport's reading is paused through uvicorn's own flow control, and what uvicorn had read is taken out
  of its cycle. We read through a descriptor of our own (``dup``): event loops refuse to watch one that belongs to a
  transport, and whatever happens to the transport, ours never becomes the descriptor of another connection.
* Giving back: the parser counts the body itself and knows nothing of what we took. So the connection gets a new parser:
  one that is fed a head of ours and then expects what is left of the body, or, behind the whole body, the next request.
  The end of a connection is seen again by the transport, whoever has seen it before.
"""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from tus_server.scopes import Listen

logger = logging.getLogger(__name__)

_MODULE: Final = "uvicorn.protocols.http.httptools_impl"
#: From the first of these versions of uvicorn to below the second, as far as they were read.
_VERSIONS: Final = ((0, 45), (0, 55))
#: The transports of plain connections, by module and class.
_TRANSPORTS: Final = frozenset(
    {
        ("asyncio.selector_events", "_SelectorSocketTransport"),
        ("uvloop.loop", "TCPTransport"),
        ("uvloop.loop", "UnixTransport"),
    }
)
_CALLBACKS: Final = ("on_message_begin", "on_url", "on_header", "on_headers_complete", "on_body", "on_message_complete")


# Any, here and below: uvicorn's classes are not imported, so that it need not be installed; ``_knows`` looks at them.
class Lent:
    """A connection whose server reads nothing until it is given back.

    Attributes:
        connection: Our own descriptor of it, which waits for nothing.
        ahead: What the server had read of the body already.
        left: How many bytes of the body come behind that, when it was lent.
    """

    def __init__(self, cycle: Any, length: int) -> None:
        self._cycle = cycle
        self._protocol = cycle.transport.get_protocol()
        theirs = cycle.transport.get_extra_info("socket")
        # The server's descriptor does not block either, and stays so: that belongs to what both stand for.
        self.connection = _duplicate(theirs)
        if cycle.waiting_for_100_continue:
            cycle.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            cycle.waiting_for_100_continue = False
        cycle.flow.pause_reading()
        self.ahead = bytes(cycle.body)
        self.left = length - len(self.ahead)
        cycle.body = bytearray()
        cycle.message_event.clear()

    def set_piece(self, count: int) -> None:
        """Have the kernel call the connection readable when so many bytes are there, or it has ended.

        Unix sockets are readable with any byte all the same.
        """
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)

    @property
    def is_open(self) -> bool:
        """Whether the server has not closed the connection meanwhile."""
        return not self._cycle.transport.is_closing()

    def give_back(self, left: int, ahead: bytes = b"", *, is_awaited: bool = False) -> None:
        """Let the server read again; our descriptor is closed.

        Args:
            left: How many bytes of the body are still on the connection.
            ahead: What was lent with it and nobody has used.
            is_awaited: Whether the server's ``receive`` is to answer even if nothing more comes.
        """
        with suppress(OSError):
            # It belongs to what both descriptors stand for.
            self.set_piece(1)
        self.connection.close()
        cycle, protocol = self._cycle, self._protocol
        if cycle.transport.is_closing() or protocol.parser is None:
            return
        protocol.parser = _build_parser(protocol, left, keep_alive=cycle.keep_alive)
        cycle.body[:0] = ahead
        cycle.more_body = left > 0
        if ahead or (is_awaited and not left):
            cycle.message_event.set()
        cycle.flow.resume_reading()


def borrow(listen: Listen, scope: Mapping[str, Any]) -> Lent | None:
    """Take over the connection of a request, to which ``100 Continue`` is said if it waits for that.

    To be called when the body is asked for, in the loop's thread, and before anything was received.

    Args:
        listen: The server's ``receive``, not wrapped by anybody.

    Returns:
        ``None`` where anything is not as we know it, or the body is here already: then nothing has happened.
    """
    cycle = getattr(listen, "__self__", None)
    try:
        length = _find_length(scope)
        if length is None or not _knows(cycle) or not len(cycle.body) < length:  # type: ignore[union-attr]
            return None
        return Lent(cycle, length)
    except (AttributeError, TypeError, ValueError, OSError):
        logger.debug("A connection is not as it was supposed to be, or there is no descriptor for it.", exc_info=True)
        return None


def _find_length(scope: Mapping[str, Any]) -> int | None:
    """Return the length of a body of HTTP/1.1 that is framed by nothing else."""
    fields: dict[bytes, list[bytes]] = {b"content-length": [], b"transfer-encoding": [], b"upgrade": []}
    for name, value in scope["headers"]:
        if name in fields:
            fields[name].append(value)
    lengths = fields[b"content-length"]
    if scope.get("http_version") != "1.1" or fields[b"transfer-encoding"] or fields[b"upgrade"] or len(lengths) != 1:
        return None
    return int(lengths[0]) if lengths[0].isdigit() else None


def _knows(cycle: Any) -> bool:
    """Say whether a cycle of uvicorn's and everything around it is as we know it, in the middle of a body."""
    server = sys.modules.get(_MODULE)
    if server is None or type(cycle) is not server.RequestResponseCycle or not _is_known_version():
        return False
    transport, flow = cycle.transport, cycle.flow
    kind = type(transport)
    if (kind.__module__, kind.__name__) not in _TRANSPORTS or transport.is_closing():
        return False
    protocol = transport.get_protocol()
    return (
        type(protocol) is server.HttpToolsProtocol
        and type(protocol.parser) is server.httptools.HttpRequestParser
        and protocol.transport is transport
        and protocol.flow is flow is not None
        and flow._transport is transport
        and isinstance(flow.read_paused, bool)
        and protocol.cycle is cycle
        and not protocol.pipeline
        and type(cycle.body) is bytearray
        and cycle.more_body is True
        and cycle.disconnected is cycle.response_started is cycle.response_complete is False
        and isinstance(cycle.keep_alive, bool)
        and isinstance(cycle.waiting_for_100_continue, bool)
        # Set by each piece, taken back by whoever receives it.
        and cycle.message_event.is_set() is bool(cycle.body)
        and transport.get_extra_info("sslcontext") is None
    )


def _is_known_version() -> bool:
    version = getattr(sys.modules.get("uvicorn"), "__version__", "")
    parts = version.split(".")
    return len(parts) == 3 and _VERSIONS[0] <= (int(parts[0]), int(parts[1])) < _VERSIONS[1]


def _duplicate(theirs: Any) -> socket.socket:
    """Return our own descriptor of a transport's socket.

    Raises:
        OSError: There is none to be had.
    """
    if theirs.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX) or theirs.type != socket.SOCK_STREAM:
        raise ValueError(f"Not a stream: {theirs!r}")
    ours = socket.fromfd(theirs.fileno(), theirs.family, theirs.type, theirs.proto)
    ours.settimeout(0)
    return ours


def _build_parser(protocol: Any, left: int, *, keep_alive: bool) -> Any:
    """Return a parser that expects so many bytes of a body, and then what comes behind it.

    Behind a request that said ``Connection: close`` a parser takes nothing any more, so the head says it too.
    """
    httptools = sys.modules[_MODULE].httptools
    is_primed = left > 0 or not keep_alive
    relay = _Relay(protocol)
    parser = httptools.HttpRequestParser(relay if is_primed else protocol)
    if hasattr(parser, "set_dangerous_leniencies"):
        # As uvicorn does.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
    if is_primed:
        connection = "keep-alive" if keep_alive else "close"
        parser.feed_data(f"PATCH / HTTP/1.1\r\nContent-Length: {left}\r\nConnection: {connection}\r\n\r\n".encode())
        relay.is_open = True
    return parser


class _Relay:
    """What a parser calls instead of a protocol: it passes nothing on until ``is_open``."""

    def __init__(self, protocol: Any) -> None:
        self.is_open = False
        self._protocol = protocol

    def __getattr__(self, name: str) -> Any:
        if name not in _CALLBACKS:
            raise AttributeError(name)
        callback = getattr(self._protocol, name)

        def pass_on(*args: Any) -> None:
            if self.is_open:
                callback(*args)

        return pass_on
