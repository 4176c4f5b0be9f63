"""``test_concatenation`` of the shipped suite, over our own shells."""

from tus_server.testing.conformance.test_concatenation import *  # noqa: F403
