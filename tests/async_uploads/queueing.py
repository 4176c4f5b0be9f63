"""A backend for Django's tasks that keeps its queue in the database, and a worker that runs it in a thread.

As the backends that projects use: what is queued is the path of a task and JSON, committed with the transaction it is
queued in, and run elsewhere.
"""

from __future__ import annotations

import json
import threading
from typing import Any

from django.db import connection, models
from django.utils.module_loading import import_string

try:
    from django.tasks import TaskResult, TaskResultStatus
    from django.tasks.backends.base import BaseTaskBackend
except ImportError:  # Django 5.2
    BaseTaskBackend = object


class Job(models.Model):
    path = models.CharField(max_length=200)
    arguments = models.TextField()

    class Meta:
        app_label = "testapp"


class DatabaseBackend(BaseTaskBackend):
    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        self.validate_task(task)
        job = Job.objects.create(path=task.module_path, arguments=json.dumps([args, kwargs]))
        moments = dict.fromkeys(("enqueued_at", "started_at", "last_attempted_at", "finished_at"))
        facts = {"status": TaskResultStatus.READY, "backend": self.alias, "errors": [], "worker_ids": []}
        return TaskResult(task=task, id=str(job.pk), args=list(args), kwargs=kwargs, **facts, **moments)


class BrokenBackend(BaseTaskBackend):
    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        raise ConnectionError("the queue is away")


def work() -> list[Any]:
    """Run what is queued in another thread, with a database connection of its own; returns what the tasks returned."""
    results: list[Any] = []

    def run() -> None:
        try:
            for job in Job.objects.order_by("pk"):
                args, kwargs = json.loads(job.arguments)
                results.append(import_string(job.path).call(*args, **kwargs))
                job.delete()
        except Exception as error:
            results.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return results
