"""Prepares the demo and serves it on this machine."""

import contextlib
import importlib.util

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import BaseCommand, CommandError, call_command
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.utils.module_loading import import_string

NAME, PASSWORD = "demo", "demo"


class RequestHandler(WSGIRequestHandler):
    """Django's own, which also tells the client's port: the lab finds connections by it."""

    def get_environ(self):
        """Return the request's environment."""
        return {**super().get_environ(), "REMOTE_PORT": str(self.client_address[1])}


class Command(BaseCommand):
    """``manage.py demo``: migrate, create the demo user, serve. May be killed and started again at any time."""

    help = "Prepare the demo (database, user) and serve it on 127.0.0.1."

    def add_arguments(self, parser):
        """Declare the options."""
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument("--no-serve", action="store_true", help="only prepare")
        parser.add_argument(
            "--server", choices=["asgi", "wsgi"], help="uvicorn (where installed, the default) or Django's own server"
        )

    def handle(self, *, port, no_serve, server, verbosity, **options):
        """Prepare, and serve unless told otherwise."""
        call_command("migrate", verbosity=max(0, verbosity - 1), interactive=False)
        self.create_user()
        has_uvicorn = importlib.util.find_spec("uvicorn") is not None
        if server == "asgi" and not has_uvicorn:
            raise CommandError("--server asgi needs uvicorn: pip install uvicorn")
        server = server or ("asgi" if has_uvicorn else "wsgi")
        url = f"http://127.0.0.1:{port}/"
        self.stdout.write(f"\n  The archive   {url}\n  Big file lab  {url}lab/\n  The admin     {url}admin/")
        self.stdout.write(f"  Log in as     {NAME}, password {PASSWORD}\n")
        self.stdout.write(f"  Files lie in  {settings.VAR_DIRECTORY}\n\n")
        if no_serve:
            return
        kind = "uvicorn, ASGI" if server == "asgi" else "Django's development server, WSGI"
        self.stdout.write(f"Served by {kind}. Ctrl-C ends it; uploads go on after the next start.\n")
        self.stdout.flush()
        try:
            self.serve_asgi(port) if server == "asgi" else self.serve_wsgi(port)
        except OSError as error:
            raise CommandError(f"Port {port} cannot be used: {error.strerror}. Try --port.") from error

    def create_user(self):
        """Create the user that may do everything; one that is there keeps whatever was changed."""
        users = get_user_model()._default_manager
        if not users.filter(username=NAME).exists():
            users.create_superuser(NAME, "demo@example.com", PASSWORD)

    def serve_asgi(self, port):
        """Serve by uvicorn with our ASGI handler: uploads are streamed, and hold no thread."""
        import uvicorn

        uvicorn.run("demo.asgi:application", port=port, log_level="warning", timeout_graceful_shutdown=2)

    def serve_wsgi(self, port):
        """Serve by Django's development server, without its reloader."""
        httpd = ThreadedWSGIServer(("127.0.0.1", port), RequestHandler)
        httpd.daemon_threads = True
        httpd.set_app(import_string(settings.WSGI_APPLICATION))
        with contextlib.suppress(KeyboardInterrupt):
            httpd.serve_forever()
