"""The Django project that is measured: ``tus_server`` alone, as its how-to page shows it, below Django's middleware.

Two endpoints that differ in durability only: ``/none/`` and ``/data/``. ``BENCHMARK_DIRECTORY`` names where the files
go.
"""

from __future__ import annotations

import os
from pathlib import Path

from django.conf import settings

from tus_server.engine import Engine
from tus_server.locks.filesystem import FileLocker
from tus_server.stores.filesystem import Durability, FilesystemStore
from tus_server.wsgi import get_urls

DIRECTORY = Path(os.environ["BENCHMARK_DIRECTORY"])

if not settings.configured:
    settings.configure(
        SECRET_KEY="for a benchmark only",
        ALLOWED_HOSTS=["127.0.0.1"],
        ROOT_URLCONF=__name__,
        LOGGING={
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {"console": {"class": "logging.StreamHandler"}},
            "root": {"handlers": ["console"], "level": "WARNING"},
        },
        MIDDLEWARE=[
            "django.middleware.security.SecurityMiddleware",
            "django.middleware.common.CommonMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.middleware.clickjacking.XFrameOptionsMiddleware",
        ],
    )


def build_engine(durability: Durability) -> Engine:
    """Return the endpoint whose files lie in ``files/<durability>``."""
    store = FilesystemStore(DIRECTORY / "files" / durability, durability=durability)
    return Engine(store, FileLocker(DIRECTORY / "locks"))


urlpatterns = [*get_urls("none/", build_engine("none")), *get_urls("data/", build_engine("data"), name="data")]
