"""``test_concurrency`` of the shipped suite, over our own shells."""

from tus_server.testing.conformance.test_concurrency import *  # noqa: F403
