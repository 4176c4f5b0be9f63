"""Trouble on demand, for the big file lab: a cut cable, a server that sleeps, a slow line. Real, not pretended.

It stands between the server and Django, as a wrapper of the application, and meets only the tus requests of the one
browser that ordered it (by the lab's cookie), with DEBUG only. What was ordered is held in this process's memory: the
demo runs as one process, and after a restart the line is in order again.
"""

import asyncio
import json
import os
import secrets
import socket
import stat
import struct
import time
from collections import Counter, OrderedDict
from contextlib import contextmanager, suppress
from http.cookies import CookieError, SimpleCookie

from django.conf import settings

COOKIE = "lab"
#: Where the tus endpoint lies; nothing else is disturbed.
TUS_PATH = "/uploads/tus"
SLEEP_SECONDS = 10
SLOW_BYTES_PER_SECOND = 1024 * 1024
#: How many bytes of a slow line arrive at once.
_SIP = 16 * 1024
#: How many visitors' lines are remembered.
_MOST_LINES = 100


class Line:
    """The line between one visitor and this server."""

    def __init__(self):
        self.asleep_until = 0.0
        self.is_slow = False
        self.cuts = 0
        self.bodies = Counter()

    @property
    def asleep_for(self):
        """Seconds until the server wakes up."""
        return max(0.0, self.asleep_until - time.monotonic())

    def sleep(self):
        """Break what is being sent, and answer 503 for some seconds."""
        self.asleep_until = time.monotonic() + SLEEP_SECONDS
        self.cut()

    def cut(self):
        """Close every connection on which a body is coming in now; say how many were closed."""
        self.cuts += 1
        return sum(close_connection(peer) for peer in list(self.bodies))

    def delay(self, count, since):
        """Seconds that so many bytes take on this line, beyond what they took really.

        Args:
            count: The bytes.
            since: The number of cuts when their request began. What came before a cut lies in this machine's memory.
        """
        return count / SLOW_BYTES_PER_SECOND if self.is_slow and since == self.cuts else 0.0

    @contextmanager
    def carrying(self, peer):
        """Remember the connection that a body comes in on."""
        self.bodies[peer] += 1
        try:
            yield
        finally:
            self.bodies[peer] -= 1
            self.bodies += Counter()  # drops those at zero


_lines = OrderedDict()


def make_token():
    """Return a value for the lab's cookie."""
    return secrets.token_urlsafe(16)


def get_line(token):
    """Return the line of the visitor with this cookie."""
    line = _lines.setdefault(token[:64], Line())
    _lines.move_to_end(token[:64])
    while len(_lines) > _MOST_LINES:
        _lines.popitem(last=False)
    return line


def find_line(cookies, path):
    """Return the line that a request comes in on, ``None`` for one that is left alone."""
    if not settings.DEBUG or not path.startswith(TUS_PATH) or f"{COOKIE}=" not in cookies:
        return None
    try:
        morsel = SimpleCookie(cookies).get(COOKIE)
    except CookieError:
        return None
    return get_line(morsel.value) if morsel else None


def close_connection(peer):
    """Close this process's connection with a peer (address and port) in the middle of whatever it carries.

    It is found among the open descriptors, so it does not matter which server holds it.
    """
    for name in os.listdir("/dev/fd"):
        with suppress(OSError):
            if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                continue
            with socket.socket(fileno=os.dup(int(name))) as connection:
                if connection.getpeername()[:2] == peer:
                    # With a reset when the server closes it, as a dead server's kernel does: a polite end would let
                    # the browser wait for a minute with bytes that nobody takes.
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    connection.shutdown(socket.SHUT_RDWR)
                    return True
    return False


def build_refusal(line):
    """Return headers and body of the sleeping server's answer."""
    body = json.dumps({"error": "The server is asleep (the lab's button).", "code": "asleep"}).encode()
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Retry-After", str(int(line.asleep_for) + 1)),
        ("Tus-Resumable", "1.0.0"),
        ("Connection", "close"),
    ]
    return headers, body


class SlowInput:
    """A WSGI input whose bytes take their time."""

    def __init__(self, stream, line):
        self._stream, self._line, self._since = stream, line, line.cuts

    def read(self, size=-1):
        """Read as the server's own input does: less than asked only at the end or when the client is gone."""
        if size < 0:
            return self._stream.read()
        pieces = []
        while size > 0:
            try:
                piece = self._stream.read(min(size, _SIP) if self._line.is_slow else size)
            except Exception:
                if not pieces:
                    raise
                break  # what came before counts; the next read meets the error again
            if not piece:
                break
            time.sleep(self._line.delay(len(piece), self._since))
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def readline(self, size=-1):
        """Read a line; no upload does."""
        return self._stream.readline(size)


def wrap_wsgi(application):
    """Return a WSGI application that has the lab's trouble around it."""

    def serve(environ, start_response):
        line = find_line(environ.get("HTTP_COOKIE", ""), environ.get("PATH_INFO", ""))
        if line is None:
            return application(environ, start_response)
        if line.asleep_for:
            headers, body = build_refusal(line)
            headers.remove(("Connection", "close"))  # not the application's business under WSGI
            start_response("503 Service Unavailable", headers)
            return [body]
        # Without it our engine reads the stream instead of the socket, and so at our pace.
        environ.pop("gunicorn.socket", None)
        environ["wsgi.input"] = SlowInput(environ["wsgi.input"], line)
        peer = (environ.get("REMOTE_ADDR", ""), int(environ.get("REMOTE_PORT") or 0))
        with line.carrying(peer):
            # The body has been read when this returns.
            return application(environ, start_response)

    return serve


def wrap_asgi(application):
    """Return an ASGI application that has the lab's trouble around it."""

    async def serve(scope, receive, send):
        line = None
        if scope["type"] == "http":
            cookies = b"; ".join(value for name, value in scope["headers"] if name == b"cookie")
            line = find_line(cookies.decode("latin-1"), scope["path"])
        if line is None:
            await application(scope, receive, send)
            return
        if line.asleep_for:
            headers, body = build_refusal(line)
            encoded = [(name.lower().encode(), value.encode()) for name, value in headers]
            await send({"type": "http.response.start", "status": 503, "headers": encoded})
            await send({"type": "http.response.body", "body": body})
            return

        since = line.cuts

        async def receive_slowly():
            message = await receive()
            await asyncio.sleep(line.delay(len(message.get("body", b"")), since))
            return message

        with line.carrying(tuple(scope.get("client") or ("", 0))):
            await application(scope, receive_slowly, send)

    return serve
