"""Large copies by Django's tasks framework (Django 6.0 and newer), where the project has a backend with workers.

Nothing depends on it: what no worker has done, because there is none, the queue is away or the worker died, the cleanup
does. Workers import ``promote_upload`` by its path, so it must stay where it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from async_uploads import cleanup
from async_uploads.journal import AsyncTempFile

try:
    from django.tasks import task, task_backends
    from django.tasks.backends.dummy import DummyBackend
    from django.tasks.backends.immediate import ImmediateBackend
    from django.tasks.exceptions import TaskException

    HAS_FRAMEWORK = True
except ImportError:  # Django 5.2
    HAS_FRAMEWORK = False

logger = logging.getLogger("async_uploads.background")


def as_task(function: Callable[[int], bool]) -> Any:  # Any: Django's Task, whose class is the backend's
    """Return a task of the default backend and queue; the function itself where the project has none of that name."""
    if HAS_FRAMEWORK:
        try:
            return task(function)
        except (ImproperlyConfigured, TaskException):
            logger.info("The project's TASKS have no default queue", exc_info=True)
    return function


@as_task
def promote_upload(pk: int) -> bool:
    """Give one claimed upload its permanent name; may be run any number of times, and beside the cleanup.

    Args:
        pk: Of its row in the journal.

    Returns:
        Whether its file lies in its permanent place now because of this run.
    """
    return cleanup.finish_claimed(pk)


def enqueue(row: AsyncTempFile) -> bool:
    """Leave an upload, whose claim is committed, to the workers of the project's default backend.

    Returns:
        Whether somebody was asked. Not where the tasks would be run here and now, or never (Django's own two backends).
    """
    if not HAS_FRAMEWORK or not hasattr(promote_upload, "enqueue"):
        return False
    try:
        if isinstance(task_backends[promote_upload.backend], (ImmediateBackend, DummyBackend)):
            return False
        promote_upload.enqueue(row.pk)
    except Exception:
        logger.exception("%s could not be given to a worker; the cleanup will move it", row.key)
        return False
    return True
