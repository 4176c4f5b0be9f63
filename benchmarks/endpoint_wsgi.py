"""The measured project under WSGI."""

import endpoint  # noqa: F401  # configures Django
from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
