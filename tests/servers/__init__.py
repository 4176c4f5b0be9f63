"""Real servers for tests: each starts on a free port of 127.0.0.1 and ends with the run."""

from tests.servers.cable import Cable
from tests.servers.process import ASGI_KINDS, WSGI_KINDS, Kind, RunningServer, ServerFailed, find_free_port

__all__ = ["ASGI_KINDS", "WSGI_KINDS", "Cable", "Kind", "RunningServer", "ServerFailed", "find_free_port"]
