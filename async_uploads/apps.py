"""The Django app: it joins the registry with the views, which the registry must not import."""

from __future__ import annotations

from django.apps import AppConfig

from tus_server import serving


class AsyncUploadsConfig(AppConfig):
    """Registers the views and the system checks when Django has loaded every model."""

    name = "async_uploads"
    verbose_name = "Async uploads"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Hand views to the registry, settings to the shells; importing the checks registers them."""
        # Models must be loaded before these are imported.
        from async_uploads import background, checks, promotion, registry, tus, views

        assert checks.__name__
        promotion.workers[:] = [background.enqueue]
        serving.read_from(tus.get_serving)
        registry.view_factories.update(
            {
                "tus": tus.get_tus_view,
                "generate-upload-url": lambda owner: views.GenerateUploadUrlView.as_view(registry=owner),
                "download-file": lambda owner: views.DownloadRedirectView.as_view(registry=owner),
                "upload-file-direct": lambda owner: views.DirectUploadView.as_view(registry=owner),
                "download-file-direct": lambda owner: views.DirectDownloadView.as_view(registry=owner),
            }
        )
