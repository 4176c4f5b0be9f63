"""``test_hazards`` of the shipped suite, over our own shells."""

from tus_server.testing.conformance.test_hazards import *  # noqa: F403
