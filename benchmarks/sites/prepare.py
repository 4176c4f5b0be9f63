"""Make the tables of the measured site, and a user who is logged in; prints the cookie.

DJANGO_SETTINGS_MODULE=benchmarks.sites.settings python -m benchmarks.sites.prepare
"""

from __future__ import annotations

import django


def main() -> None:
    """Migrate and log in."""
    django.setup()
    from django.conf import settings
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.test import Client

    call_command("migrate", run_syncdb=True, verbosity=0)
    user, _ = get_user_model().objects.get_or_create(
        username="measured", defaults={"is_superuser": True, "is_staff": True}
    )
    client = Client()
    client.force_login(user)
    print(f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}")


if __name__ == "__main__":
    main()
