"""The demo for a WSGI server: Django's application, and around it the trouble that the lab makes (DEBUG only)."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo.settings")
application = get_wsgi_application()

from talks.trouble import wrap_wsgi  # noqa: E402  (after Django is set up)

application = wrap_wsgi(application)
