"""``test_termination`` of the shipped suite, over our own shells."""

from tus_server.testing.conformance.test_termination import *  # noqa: F403
