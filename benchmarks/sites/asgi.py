"""The measured site under ASGI, by the handler that streams."""

from tus_server.asgi import get_asgi_application

application = get_asgi_application()
