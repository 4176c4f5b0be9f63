"""The measured project under ASGI, by the handler that streams."""

import endpoint  # noqa: F401  # configures Django
from tus_server.asgi import get_asgi_application

application = get_asgi_application()
