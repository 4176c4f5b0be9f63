"""How a connection is closed whose client still sends a body that nobody wants.

Closed at once it would be reset, and the client would never read why. So the answer is sent whole but its end kept
back, the rest of the body is thrown away for a while, and then the end closes the connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from tus_server.scopes import Listen, Send

logger = logging.getLogger(__name__)

#: For how long, in seconds, the rest of a refused body is thrown away: in all, while the server goes down, and without
#: a message.
LINGER_SECONDS = 10.0
DRAINING_SECONDS = 1.0
_LINGER_QUIET_SECONDS = 1.0


class LateEnd:
    """Sends an answer, and keeps its end back while ``keep`` is set: the server does not close the connection yet."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.keep = True
        self._is_held = False

    async def __call__(self, message: Mapping[str, Any]) -> None:
        """Send a message; the last one as if another followed."""
        if self.keep and message["type"] == "http.response.body" and not message.get("more_body", False):
            self._is_held = True
            message = {**message, "more_body": True}
        await self._send(message)

    async def end(self) -> None:
        """Send the end that was kept back."""
        if self._is_held:
            self._is_held = False
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})


async def linger(listen: Listen, seconds: float = LINGER_SECONDS) -> None:
    """Throw the rest of a body away for so many seconds.

    A connection that is closed while its client still sends is reset, and the client never reads why.
    """
    try:
        async with asyncio.timeout(seconds):
            while True:
                async with asyncio.timeout(_LINGER_QUIET_SECONDS):
                    message = await listen()
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return
    except Exception:
        logger.debug("A refused body ended with an error of the server's.", exc_info=True)
