"""What others hold for too long, a deadlock or an old snapshot: errors that may be repeated, and nothing is lost.

``python -m tests.async_uploads.faults waiting`` prints one line of JSON. For PostgreSQL and MariaDB; FAULTS_ISOLATION
gives the connection another level of isolation.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any
from unittest import mock

from django.db import DatabaseError, OperationalError, connection, transaction
from django.test import Client
from django.utils import timezone

from async_uploads import promotion
from async_uploads.claims import AlreadyClaimed
from async_uploads.cleanup import reconcile
from async_uploads.journal import AsyncTempFile
from tests.async_uploads import promoting
from tests.async_uploads.faults import oracle, scenarios, world
from tests.async_uploads.faults.oracle import Facts, Violation
from tests.async_uploads.tusclient import create, field_id, patch, request
from tests.testapp.models import Document

IS_MARIADB = connection.vendor == "mysql"
ROW = "SELECT id FROM async_uploads_asynctempfile ORDER BY id LIMIT 1 FOR UPDATE"
#: For the first test, whose transaction the database would have to end.
SERIALIZATION_FAILURE = "could not serialize"


def be_impatient() -> None:
    """Let the connection wait for others a second at most."""
    with connection.cursor() as cursor:
        cursor.execute("SET innodb_lock_wait_timeout = 1" if IS_MARIADB else "SET lock_timeout = '1s'")


@contextmanager
def hold(statement: str) -> Iterator[Any]:
    """Hold the rows of a statement in a transaction of another connection."""
    holder = oracle.connect()
    if IS_MARIADB:
        holder.begin()
    else:
        holder.autocommit = False
    try:
        oracle.select(holder, statement)
        yield holder
    finally:
        with suppress(Exception):
            holder.rollback()
        holder.close()


def beside(operation: Callable[[], Any]) -> None:
    """Do something in another connection, to its end."""

    def run() -> None:
        try:
            operation()
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


def require(condition: object, what: str) -> None:
    """Judge."""
    if not condition:
        raise Violation(what)


def require_one_place(name: str = "docs/new.txt") -> None:
    """The one upload ends as a record's file."""
    reconcile(timedelta(days=3), now=timezone.now() + timedelta(days=1))
    facts = Facts(world.MEDIA)
    facts.require_settled({})
    require(list(facts.tree) == [name], f"{sorted(facts.tree)}")


def save_while_the_upload_is_held_in_a_transaction() -> None:
    [key] = scenarios.upload()
    be_impatient()
    document = Document(file=key)
    with hold(ROW):
        try:
            with transaction.atomic():
                document.save()
        except OperationalError:
            document.pk, document._state.adding = None, True
        else:
            raise Violation("nobody waited")
        require(not Document.objects.exists(), "a record is left")
    document.save()
    require_one_place()


def save_while_the_upload_is_held_in_autocommit() -> None:
    [key] = scenarios.upload()
    be_impatient()
    with hold(ROW), suppress(OperationalError):
        Document.objects.create(file=key)
        raise Violation("nobody waited")
    Facts(world.MEDIA).require_readable({b"new"})
    require(Document.objects.get().file.name == key, "the key does not stand in the column")
    require_one_place()


def clean_while_an_old_row_is_held() -> None:
    scenarios.save(scenarios.upload())
    scenarios.upload()
    AsyncTempFile.objects.update(last_activity=timezone.now() - timedelta(days=9))
    be_impatient()
    with hold(ROW):
        report = reconcile(timedelta(0))
        require(report.failed >= 1 and not report.problems, f"{report} while the row of a promoted file is held")
    report = reconcile(timedelta(0))
    require(report.removed == 1 and not report.failed, f"{report} afterwards")
    require(not AsyncTempFile.objects.exists(), "rows are left")


def adopt_while_the_upload_is_held() -> None:
    scenarios.prepare_column()
    be_impatient()
    with hold(ROW):
        report = reconcile(timedelta(days=3))
        require((report.failed, report.problems) == (1, []), f"{report} while the upload is held")
    require_one_place()


def patch_while_the_upload_is_held() -> None:
    client = Client()
    url = create(client, field_id(Document), "new.txt", 3)["Location"]
    be_impatient()
    with hold(ROW):
        answer = patch(client, url, 0, b"new")
        require(answer.status_code == 503 and answer["Retry-After"], f"{answer.status_code} instead of 503")
    be_impatient()
    offset = int(request(client, "HEAD", url)["Upload-Offset"])
    if offset < 3:
        answer = patch(client, url, offset, b"new"[offset:])
        require(answer.status_code == 204, f"{answer.status_code} instead of 204")
    Document.objects.create(file=AsyncTempFile.objects.get().key)
    require_one_place()


def save_into_a_deadlock() -> None:
    """Who waits for us has the upload: one of both is told to give up, and we may save again."""
    [key] = scenarios.upload()
    other = Document.objects.create(title="other")
    document = Document(file=key)
    with connection.cursor() as cursor:
        if IS_MARIADB:
            for number in range(50):  # the one with the fewest changes is told to give up
                Document.objects.create(title=f"{number}")
        else:
            cursor.execute("SET deadlock_timeout = '50ms'")
    with hold(ROW) as holder:
        if IS_MARIADB:
            oracle.select(holder, f"UPDATE testapp_document SET title = 'x' WHERE id > {other.pk}")
        else:
            holder.execute("SET LOCAL deadlock_timeout = '20s'")
        waiter = threading.Thread(
            target=lambda: oracle.select(holder, f"SELECT id FROM testapp_document WHERE id = {other.pk} FOR UPDATE")
        )
        try:
            with transaction.atomic():
                Document.objects.filter(pk=other.pk).update(title="ours")
                waiter.start()
                time.sleep(0.3)
                document.save()
        except OperationalError as error:
            require("deadlock" in str(error).lower(), f"{error!r} is no deadlock")
        else:
            raise Violation("there was no deadlock")
        waiter.join()
    require(Document.objects.get(pk=other.pk).title == "other", "the transaction is not rolled back")
    document.pk, document._state.adding = None, True
    document.save()
    require_one_place()


def lose_the_race_behind_an_old_snapshot() -> None:
    [key] = scenarios.upload()
    try:
        with transaction.atomic():
            Document.objects.count()
            beside(lambda: Document.objects.create(file=key))
            Document.objects.create(file=key)
    except AlreadyClaimed:
        pass
    except OperationalError as error:
        require(SERIALIZATION_FAILURE in str(error), repr(error))
    else:
        raise Violation("two records have the upload")
    require(Document.objects.count() == 1, "the loser's record is left")
    require_one_place()


def want_a_name_that_was_promised_behind_an_old_snapshot() -> None:
    first, second = scenarios.upload() + scenarios.upload()
    with mock.patch.object(promotion, "promote", return_value=False), transaction.atomic():
        Document.objects.count()
        beside(lambda: Document.objects.create(file=first))
        document = Document.objects.create(file=second)
    names = set(Document.objects.values_list("file", flat=True))
    require(len(names) == 2 and document.file.name in names, f"{names}")
    promoting.pass_turns()
    reconcile(timedelta(days=3))
    Facts(world.MEDIA).require_settled({})


SITUATIONS = (
    save_while_the_upload_is_held_in_a_transaction,
    save_while_the_upload_is_held_in_autocommit,
    clean_while_an_old_row_is_held,
    adopt_while_the_upload_is_held,
    patch_while_the_upload_is_held,
    save_into_a_deadlock,
    lose_the_race_behind_an_old_snapshot,
    want_a_name_that_was_promised_behind_an_old_snapshot,
)


def main() -> int:
    """Try each situation; returns the number of violations."""
    world.build()
    violations = []
    for situation in SITUATIONS:
        world.reset()
        try:
            situation()
        except (Violation, DatabaseError, LookupError) as error:
            violations.append(f"{situation.__name__}: {error!r}")
        world.close()  # with whatever was set for it
    print(json.dumps({"situations": len(SITUATIONS), "violations": violations}))
    world.close()
    return len(violations)
