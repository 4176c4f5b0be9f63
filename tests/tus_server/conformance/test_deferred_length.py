"""``test_deferred_length`` of the shipped suite, over our own shells."""

from tus_server.testing.conformance.test_deferred_length import *  # noqa: F403
