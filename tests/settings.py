"""Django settings of the test suite; servers that tests start as processes of their own use them too.

Everything a run writes lies in one temporary directory, which ``tests/conftest.py`` makes and removes. Child processes
get it by TEST_RUN_DIRECTORY, so that they see the run's database and files. TEST_DATABASE=postgres takes PostgreSQL,
found by libpq's own variables (PGHOST, ...), TEST_DATABASE=mariadb takes MariaDB, found by those of its clients
(MYSQL_HOST, MYSQL_TCP_PORT); ``tests/conftest.py`` points them at a server of its own.
"""

import os
import secrets
import tempfile
from pathlib import Path

RUN_DIRECTORY = Path(
    os.environ.setdefault("TEST_RUN_DIRECTORY", f"{tempfile.gettempdir()}/async-uploads-{secrets.token_hex(6)}")
)

SECRET_KEY = "tests only"
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.urls"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "rest_framework",
    "async_uploads",
    "tests.testapp",
]
MIGRATION_MODULES = {"testapp": None}

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

if os.environ.get("TEST_DATABASE") == "postgres":
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "test_async_uploads",
            "TEST": {"NAME": "test_async_uploads"},
        }
    }
elif os.environ.get("TEST_DATABASE") == "mariadb":
    import pymysql

    pymysql.install_as_MySQLdb()  # it says of itself which mysqlclient it is like
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.mysql",
            "NAME": "test_async_uploads",
            "USER": "root",
            "HOST": os.environ.get("MYSQL_HOST", "127.0.0.1"),
            "PORT": os.environ.get("MYSQL_TCP_PORT", ""),
            # The loopback needs no TLS, whose certificates PyMySQL reads anew for each connection.
            "OPTIONS": {"charset": "utf8mb4", "ssl_disabled": True},
            "TEST": {"NAME": "test_async_uploads", "CHARSET": "utf8mb4"},
        }
    }
else:
    # A file, and the same name in and outside of tests: threads and child processes share it with the test.
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": RUN_DIRECTORY / "db.sqlite3",
            "TEST": {"NAME": RUN_DIRECTORY / "db.sqlite3"},
            "OPTIONS": {
                "timeout": 20,
                "transaction_mode": "IMMEDIATE",
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
            },
        }
    }

MEDIA_ROOT = RUN_DIRECTORY / "media"
MEDIA_URL = "/media/"
STATIC_URL = "/static/"
STORAGES = {
    "default": {"BACKEND": "async_uploads.storage.filesystem.FileSystemAsyncUploadStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
