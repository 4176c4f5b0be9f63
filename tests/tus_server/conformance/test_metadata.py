"""``test_metadata`` of the shipped suite, over our own shells."""

from tus_server.testing.conformance.test_metadata import *  # noqa: F403
