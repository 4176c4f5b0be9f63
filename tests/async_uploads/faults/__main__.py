"""Sets Django up, then runs a program: ``python -m tests.async_uploads.faults sweep 40 1``."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from contextlib import nullcontext
from importlib import import_module
from typing import Any

import django

from tests.async_uploads.faults import clouds


def main() -> int:
    """Run the program that the arguments name; its answer is the number of violations."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    from tests import settings

    configured: dict[str, Any] = settings.DATABASES["default"]
    if name := os.environ.get("FAULTS_DATABASE"):
        configured["NAME"] = name
    if level := os.environ.get("FAULTS_ISOLATION"):
        configured["OPTIONS"]["isolation_level"] = level
    settings.RUN_DIRECTORY.mkdir(exist_ok=True)
    # django-storages 1.14 on Python 3.12 and newer.
    warnings.filterwarnings("ignore", r"datetime\.datetime\.utcnow", DeprecationWarning, "storages")
    kind = os.environ.get("FAULTS_CLOUD")
    with clouds.served(kind) if kind else nullcontext() as cloud:
        if cloud is not None:
            settings.STORAGES = {**settings.STORAGES, "default": {"BACKEND": cloud.backend, "OPTIONS": cloud.options}}
        django.setup()
        logging.disable(logging.CRITICAL)
        program = import_module(f"tests.async_uploads.faults.{sys.argv[1]}")  # not before: it imports models
        if cloud is not None:
            cloud.prepare()
        return bool(program.main(*map(float, sys.argv[2:])))


if __name__ == "__main__":
    sys.exit(main())
