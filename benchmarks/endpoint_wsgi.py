"""The measured project under WSGI."""

from django.core.wsgi import get_wsgi_application

import endpoint  # noqa: F401  # configures Django

application = get_wsgi_application()
