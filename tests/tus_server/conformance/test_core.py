"""``test_core`` of the shipped suite, over our own shells."""

from tus_server.testing.conformance.test_core import *  # noqa: F403
