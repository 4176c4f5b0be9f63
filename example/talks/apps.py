"""The app's configuration."""

from django.apps import AppConfig


class TalksConfig(AppConfig):
    """Talks and the lab."""

    name = "talks"
    default_auto_field = "django.db.models.BigAutoField"
