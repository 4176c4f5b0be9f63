"""The Django app: it joins the registry with the views, which the registry must not import."""

from __future__ import annotations

from django.apps import AppConfig


class AsyncUploadsConfig(AppConfig):
    """Registers the views and the system checks when Django has loaded every model."""

    name = "async_uploads"
    verbose_name = "Async uploads"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Hand the view factories to the registry; importing the checks registers them."""
        from async_uploads import checks, registry, tus, views  # models must be loaded before these are imported

        assert checks.__name__
        registry.view_factories.update(
            {
                "tus": tus.get_tus_view,
                "generate-upload-url": lambda owner: views.GenerateUploadUrlView.as_view(registry=owner),
                "download-file": lambda owner: views.DownloadRedirectView.as_view(registry=owner),
                "upload-file-direct": lambda owner: views.DirectUploadView.as_view(registry=owner),
                "download-file-direct": lambda owner: views.DirectDownloadView.as_view(registry=owner),
            }
        )
