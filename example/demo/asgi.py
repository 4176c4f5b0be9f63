"""The demo for an ASGI server: our drop-in for Django's application, which streams uploads, and the lab's trouble."""

import os
import warnings

from tus_server.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo.settings")
application = get_asgi_application()

from talks.trouble import wrap_asgi  # noqa: E402  (after Django is set up)

# The static files of development are read synchronously, as Django serves them.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous iterators")
application = wrap_asgi(application)
