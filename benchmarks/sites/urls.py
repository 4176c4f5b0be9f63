"""The routes of the measured site.

``/none/``, ``/data/``, ``/strict/``  ``tus_server`` alone, without a database, one endpoint per durability
``/portable/``                        as ``/none/``, but never by a fast path
``/s3/``                              ``tus_server`` alone, relaying to the sink that ``BENCHMARK_S3_ENDPOINT`` names
``/azure/``                           the same by Azure's protocol; ``BENCHMARK_AZURE`` is the connection string
``/uploads/``                         ``async_uploads``: a row, a lease and a login
``/stock/``                           a view of Django's that answers 204
``/served/``                          how many bodies came by which path, as JSON
"""

from __future__ import annotations

import os
from contextlib import suppress

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import include, path

from async_uploads.registry import default_async_field_registry
from tus_server.config import TusConfig
from tus_server.engine import Engine
from tus_server.locks.filesystem import FileLocker
from tus_server.served import BODIES
from tus_server.stores.filesystem import FilesystemStore
from tus_server.stores.syncing import Durability
from tus_server.wsgi import get_urls


def build_engine(name: str, durability: Durability, *, fast_path: bool = True) -> Engine:
    """Return the endpoint whose files lie in ``files/<name>``."""
    store = FilesystemStore(settings.DIRECTORY / "files" / name, durability=durability)
    config = TusConfig(fast_path=fast_path, uvicorn_handover=settings.HAS_HANDOVER)
    return Engine(store, FileLocker(settings.DIRECTORY / "locks"), config=config)


def build_s3_engine() -> Engine:
    """Return the endpoint that relays to the sink, by boto3's client as our documentation configures it."""
    import boto3
    from botocore.config import Config

    from tus_server.stores.manifests import MemoryManifests
    from tus_server.stores.pipeline import POOL_THREADS
    from tus_server.stores.s3 import S3Store
    from tus_server.stores.sidecars import FileRecords

    client = boto3.client(
        "s3",
        endpoint_url=os.environ["BENCHMARK_S3_ENDPOINT"],
        aws_access_key_id="measured",
        aws_secret_access_key="measured",
        region_name="us-east-1",
        config=Config(
            max_pool_connections=POOL_THREADS,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path"},
        ),
    )
    store = S3Store(client, "bucket", FileRecords(settings.DIRECTORY / "records"), MemoryManifests(), conditional=True)
    return Engine(store, FileLocker(settings.DIRECTORY / "locks"))


def build_azure_engine() -> Engine:
    """Return the endpoint that relays to the sink as to Azure, by the SDK's client as our documentation makes it."""
    from azure.core.exceptions import ResourceExistsError
    from azure.storage.blob import ContainerClient

    from tus_server.stores.azure import AzureStore
    from tus_server.stores.manifests import MemoryManifests
    from tus_server.stores.sidecars import FileRecords

    container = ContainerClient.from_connection_string(os.environ["BENCHMARK_AZURE"], "measured")
    with suppress(ResourceExistsError):
        container.create_container()
    store = AzureStore(container, FileRecords(settings.DIRECTORY / "records"), MemoryManifests())
    return Engine(store, FileLocker(settings.DIRECTORY / "locks"))


def stock(request: HttpRequest) -> HttpResponse:
    """Answer 204 and do nothing else."""
    return HttpResponse(status=204)


def show_served(request: HttpRequest) -> JsonResponse:
    """Tell by which paths bodies have come into this process."""
    return JsonResponse(dict(BODIES))


urlpatterns = [
    *get_urls("none/", build_engine("none", "none"), name="none"),
    *get_urls("data/", build_engine("data", "data"), name="data"),
    *get_urls("strict/", build_engine("strict", "strict"), name="strict"),
    *get_urls("portable/", build_engine("portable", "none", fast_path=False), name="portable"),
    *(get_urls("s3/", build_s3_engine(), name="s3") if "BENCHMARK_S3_ENDPOINT" in os.environ else []),
    *(get_urls("azure/", build_azure_engine(), name="azure") if "BENCHMARK_AZURE" in os.environ else []),
    path("uploads/", include(default_async_field_registry.get_url_patterns())),
    path("stock/", stock),
    path("served/", show_served),
]
