"""Settings of the measured site: what ``startproject`` writes, an app with a file field, and two endpoints beside it.

``BENCHMARK_DIRECTORY`` names where database and files go; ``BENCHMARK_DATABASE`` is ``sqlite`` (write-ahead log) or
``postgres`` (found by libpq's variables); ``BENCHMARK_DURABILITY`` is the setting of ``async_uploads``.
"""

import os
from pathlib import Path

DIRECTORY = Path(os.environ["BENCHMARK_DIRECTORY"])

SECRET_KEY = "for a benchmark only"
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "benchmarks.sites.urls"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "async_uploads",
    "benchmarks.sites.archive",
]
MIGRATION_MODULES = {"archive": None}

# What ``startproject`` writes: "Django's default middleware" of the results.
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

if os.environ.get("BENCHMARK_DATABASE") == "postgres":
    DATABASES = {
        "default": {"ENGINE": "django.db.backends.postgresql", "NAME": "postgres", "CONN_MAX_AGE": 60},
    }
else:
    # A connection lasts over requests, as a site under load would have it.
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": DIRECTORY / "db.sqlite3",
            "CONN_MAX_AGE": 60,
            "OPTIONS": {
                "timeout": 20,
                "transaction_mode": "IMMEDIATE",
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
            },
        }
    }

STORAGES = {
    "default": {"BACKEND": "async_uploads.storage.filesystem.FileSystemAsyncUploadStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
MEDIA_ROOT = DIRECTORY / "media"
STATIC_URL = "/static/"
HAS_HANDOVER = os.environ.get("BENCHMARK_HANDOVER") == "on"
ASYNC_UPLOADS = {"DURABILITY": os.environ.get("BENCHMARK_DURABILITY", "none"), "UVICORN_HANDOVER": HAS_HANDOVER}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
}
