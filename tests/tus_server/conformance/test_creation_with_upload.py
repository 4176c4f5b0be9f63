"""``test_creation_with_upload`` of the shipped suite, over our own shells."""

from tus_server.testing.conformance.test_creation_with_upload import *  # noqa: F403
