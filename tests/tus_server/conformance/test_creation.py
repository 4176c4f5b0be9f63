"""``test_creation`` of the shipped suite, over our own shells."""

from tus_server.testing.conformance.test_creation import *  # noqa: F403
