"""``test_expiration`` of the shipped suite, over our own shells."""

from tus_server.testing.conformance.test_expiration import *  # noqa: F403
