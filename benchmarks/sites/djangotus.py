"""The peer django-tus, with its defaults, in a Django project of one file. It holds each body in memory."""

import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.urls import path

DIRECTORY = os.environ["BENCHMARK_DIRECTORY"]

settings.configure(
    SECRET_KEY="for a benchmark only",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    DATA_UPLOAD_MAX_MEMORY_SIZE=None,
    TUS_UPLOAD_URL="/files",
    TUS_UPLOAD_DIR=os.path.join(DIRECTORY, "parts"),
    TUS_DESTINATION_DIR=os.path.join(DIRECTORY, "files"),
    TUS_FILE_NAME_FORMAT="random",
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
)
application = get_wsgi_application()

for name in ("parts", "files"):
    os.makedirs(os.path.join(DIRECTORY, name), exist_ok=True)
    # os.renames, by which it moves files, removes directories that are empty afterwards.
    open(os.path.join(DIRECTORY, name, "keep"), "w").close()

from django_tus.views import TusUpload  # noqa: E402  (after the settings)

urlpatterns = [
    path("files/", TusUpload.as_view()),
    path("files/<uuid:resource_id>", TusUpload.as_view()),
]
