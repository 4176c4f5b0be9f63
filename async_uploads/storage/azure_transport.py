"""The connections of Azure's client: as many as our threads need, kept open."""

from __future__ import annotations

import requests
from azure.core.pipeline.transport import RequestsTransport
from requests.adapters import HTTPAdapter

from tus_server.stores.pipeline import POOL_THREADS

#: Besides the pool's threads, requests ask for single blobs.
CONNECTIONS = POOL_THREADS + 16


def build_transport() -> RequestsTransport:
    """Return a transport that keeps ``CONNECTIONS`` connections; the SDK's own keeps ten and throws the others away."""
    session = requests.Session()
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(pool_connections=4, pool_maxsize=CONNECTIONS, max_retries=0))
    return RequestsTransport(session=session)
