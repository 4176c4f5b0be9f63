"""The example with another storage, for a site whose files lie in the cloud.

SITE_STORAGE    the storage that takes the uploads, as in ``STORAGES``, as JSON
SITE_CLOUD      scheme, host and port of the service, to which the browser may then talk
"""

import json
import os

import demo.middleware
from demo.settings import *  # noqa: F403

STORAGES = {**STORAGES, "default": json.loads(os.environ["SITE_STORAGE"])}  # noqa: F405
demo.middleware.POLICY = demo.middleware.POLICY.replace(
    "connect-src 'self'", f"connect-src 'self' {os.environ['SITE_CLOUD']}"
)
