"""Several processes submit, clean and download at random; then the oracle looks at everything.

``python -m tests.async_uploads.faults crowd SECONDS SEED`` prints one line of JSON: what was done, and what went wrong.
"""

from __future__ import annotations

import json
import os
import random
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from django.db import transaction
from django.utils import timezone

from async_uploads.claims import InvalidUpload
from async_uploads.cleanup import reconcile
from async_uploads.journal import find_by_key
from tests import settings
from tests.async_uploads.faults import world
from tests.async_uploads.faults.oracle import Facts, Violation
from tests.testapp.models import Document

SUBMITTERS, CLEANERS, READERS = 4, 2, 2


class Boom(Exception):
    """What a view raises."""


def submit(lot: random.Random, number: int) -> str:
    """Upload and save in one of many ways; the record's title is the file's content."""
    title = f"{os.getpid()}-{number}"
    key = world.make_upload(world.field_of(Document), title.encode(), "same.txt")
    document = Document(title=title, file=key)
    way = lot.choice(["save", "atomic", "roll back", "bulk", "raw", "update", "delete", "again"])
    # The cleaners go by an age of nothing: they may have removed it before a record took it.
    with suppress(InvalidUpload, Boom):
        if way == "save":
            document.save()
        elif way == "raw":
            document.save_base(raw=True)
        elif way == "update":
            document = Document.objects.create(title=title)
            Document.objects.filter(pk=document.pk).update(file=key)
        elif way == "again":
            with suppress(Boom), transaction.atomic():
                document.save()
                raise Boom
            document = Document(title=title, file=document.file)
            document.save()
        else:
            with transaction.atomic():
                if way == "bulk":
                    Document.objects.bulk_create([document])
                else:
                    document.save()
                if way == "roll back":
                    raise Boom
                if way == "delete":
                    document.delete()
    return way


def download(lot: random.Random, number: int) -> str:
    """Read a record's file; it is there from its commit on."""
    pks = list(Document.objects.exclude(file="").order_by("-pk").values_list("pk", flat=True)[:20])
    if not pks:
        return "nothing"
    document = Document.objects.get(pk=lot.choice(pks))
    try:
        with document.file.open() as file:
            content = file.read()
    except FileNotFoundError:
        # With an age of nothing rows are forgotten at once: of keys that were written by hand, too.
        name = Document.objects.get(pk=document.pk).file.name
        if name != document.file.name or (document.file.field.is_temporary(name) and find_by_key(name) is None):
            return "forgotten"
        raise
    if content != document.title.encode():
        raise Violation(f"{document.file.name} of {document.title} holds {content!r}")
    return "download"


def clean(lot: random.Random, number: int) -> str:
    """Reconcile with the sharpest age."""
    reconcile(timedelta(hours=lot.choice([0, 1])))
    return "clean"


def work(operation: Callable[[random.Random, int], str], seconds: float, seed: int, log: Path) -> None:
    """Do something again and again in a child process; notes what, or what went wrong."""
    lot, counts, errors = random.Random(seed), dict[str, int](), list[str]()
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end and len(errors) < 5:
        number += 1
        try:
            way = operation(lot, number)
            counts[way] = counts.get(way, 0) + 1
        except Exception:
            errors.append(traceback.format_exc())
    world.close()
    log.write_text(json.dumps({"counts": counts, "errors": errors}))


def main(seconds: float, seed: float) -> int:
    """Run the crowd; returns the number of violations."""
    world.build()
    world.reset()
    world.close()
    children = {}
    for number, operation in enumerate([submit] * SUBMITTERS + [clean] * CLEANERS + [download] * READERS):
        log = settings.RUN_DIRECTORY / f"crowd-{number}.json"
        child = os.fork()
        if not child:
            work(operation, seconds, int(seed) + number, log)
            os._exit(0)
        children[child] = log
    counts: dict[str, int] = {}
    violations = []
    for child, log in children.items():
        if os.waitpid(child, 0)[1]:
            violations.append(f"{child} died")
            continue
        noted = json.loads(log.read_text())
        violations += noted["errors"]
        for way, count in noted["counts"].items():
            counts[way] = counts.get(way, 0) + count
    for _ in range(2):  # a day later: what failed (a deadlock) is tried again after a minute
        report = reconcile(timedelta(0), now=timezone.now() + timedelta(days=1))
    missing = [problem for problem in report.problems if not is_lost_by_age(problem)]
    violations += missing
    violations += judge()
    world.close()
    print(json.dumps({"counts": counts, "documents": Document.objects.count(), "violations": violations}))
    world.close()
    return len(violations)


def is_lost_by_age(problem: str) -> bool:
    """Say whether a key was written by hand after the cleaners had removed its upload."""
    return "holds the key" in problem and "Invalid upload received" in problem


def judge() -> list[str]:
    """Look at everything, directly."""
    found = []
    facts = Facts(world.MEDIA)
    titles = {document.pk: document.title.encode() for document in Document.objects.all()}
    expected = {}
    for (_, _, pk), value in facts.columns.items():
        if value.startswith("async-temp-files/"):
            if value in facts.tree or any(row["key"] == value for row in facts.rows):
                found.append(f"{value} is still a key, and its upload is there")
            continue
        expected[value] = titles[pk]
    if facts.tree != expected:
        found.append(f"{sorted(set(facts.tree.items()) ^ set(expected.items()))[:6]} differ")
    if len(expected) != len([value for value in facts.columns.values() if not value.startswith("async-temp-files/")]):
        found.append("two records hold one name")
    found += [f"{row} is left" for row in facts.rows[:3]]
    return found
