"""An authentication backend that knows permissions for single records, as django-guardian does."""

from typing import Any

from django.contrib.auth.backends import BaseBackend

#: (user's primary key, permission, record) that are granted.
GRANTED: set[tuple[Any, str, Any]] = set()


class ObjectPermissions(BaseBackend):
    """Grants what is in ``GRANTED``, and general permissions to nobody."""

    def has_perm(self, user_obj: Any, perm: str, obj: Any = None) -> bool:
        """Say whether a permission for this record was granted."""
        return obj is not None and (user_obj.pk, perm, obj) in GRANTED
