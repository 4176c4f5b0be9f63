"""``test_not_announced`` of the shipped suite, over our own shells."""

from tus_server.testing.conformance.test_not_announced import *  # noqa: F403
