"""``test_checksum`` of the shipped suite, over our own shells."""

from tus_server.testing.conformance.test_checksum import *  # noqa: F403
