"""The ASGI application of the test site: ours, which streams bodies."""

from tus_server.asgi import get_asgi_application

application = get_asgi_application()
