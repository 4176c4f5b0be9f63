"""Settings of a tiny site that serves ``tus_server`` alone, without ``async_uploads``; see ``endpoints``."""

import errno
import os
from pathlib import Path
from typing import NoReturn

DIRECTORY = Path(os.environ["TEST_SERVER_DIRECTORY"])
#: ``none`` for tests that move gigabytes and ask for something else.
DURABILITY = os.environ.get("TEST_SERVER_DURABILITY", "data")

#: ``on``; ``socket``: the kernel cannot splice; ``off``: bodies are read from ``wsgi.input``; ``handover``: uvicorn
#: lends its connection.
FAST_PATH = os.environ.get("TEST_SERVER_FAST_PATH", "on")
if FAST_PATH == "socket":

    def _cannot(*args: object, **kwargs: object) -> NoReturn:
        raise OSError(errno.EINVAL, "Invalid argument")

    os.splice = _cannot  # type: ignore[assignment]  # for this process, whose tests want to see the way around it

SECRET_KEY = "for tests only"
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "testserver"]
INSTALLED_APPS: list[str] = []
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "tests.servers.urls"
# No test needs a database; it is here so that everything runs with ATOMIC_REQUESTS on, which async views do not bear.
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:", "ATOMIC_REQUESTS": True}}
USE_TZ = True
LANGUAGE_CODE = os.environ.get("TEST_SERVER_LANGUAGE", "ru")
DEFAULT_CHARSET = "utf-8"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
}
