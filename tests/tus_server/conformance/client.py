"""The client of the shipped suite, for the tests around it."""

from tus_server.testing.conformance.client import *  # noqa: F403
