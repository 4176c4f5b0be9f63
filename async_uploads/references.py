"""Keys that stand in columns: records written by statements of their own hold them until they are adopted."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.db import OperationalError, connections, models, router

from async_uploads import claims, promotion
from async_uploads.batches import BATCH, Run
from async_uploads.claims import InvalidUpload
from async_uploads.journal import AsyncTempFile
from async_uploads.registry import registries
from async_uploads.storage.base import AsyncUploadStorage

logger = logging.getLogger("async_uploads.cleanup")


def all_fields() -> list[Any]:
    return [known for registry in list(registries) for known in registry.fields_by_id.values()]


def _aliases(model: type[models.Model]) -> list[str]:
    """Return the databases that hold a model's table, the one that is written to first."""
    first = router.db_for_write(model)
    others = [alias for alias in connections if alias != first and router.allow_migrate_model(alias, model)]
    table = model._meta.db_table
    return [first, *(alias for alias in others if table in connections[alias].introspection.table_names())]


def group_by_field(run: Run, rows: Iterable[AsyncTempFile], what: str) -> Iterator[tuple[Any, list[AsyncTempFile]]]:
    """Yield the fields of uploads with their rows; those whose bytes cannot be found any more need a person.

    Args:
        run: Where problems are reported.
        rows: Uploads.
        what: What they are, for the report.
    """
    grouped: dict[str, list[AsyncTempFile]] = {}
    for row in rows:
        grouped.setdefault(row.field_label, []).append(row)
    for label, found in grouped.items():
        each = found[0].get_field()
        if each is None:
            run.report.problems.append(f"The field {label} of {len(found)} {what} uploads is gone: {_name(found)}")
            continue
        identity = each.storage.identity() if isinstance(each.storage, AsyncUploadStorage) else None
        elsewhere = [row for row in found if row.storage != identity]
        if elsewhere:
            message = f"The field {label} has left the storage of {len(elsewhere)} {what} uploads: {_name(elsewhere)}"
            run.report.problems.append(message)
        if len(elsewhere) < len(found):
            yield each, [row for row in found if row.storage == identity]


def _name(rows: Sequence[AsyncTempFile]) -> str:
    return ", ".join(row.key for row in rows[:3])


def adopt_columns(run: Run) -> None:
    """Claim the uploads whose keys stand in columns: bulk operations, or a process that died in between."""
    for each in all_fields():
        if not isinstance(each.storage, AsyncUploadStorage):
            continue
        holds_key = {f"{each.attname}__startswith": f"{each.storage.temporary_key_prefix}/"}
        try:
            for alias, pk, key in iterate_records(each, holds_key):
                adopt(run, each, alias, pk, key)
        except Exception as error:
            run.report.problems.append(f"{each} could not be searched: {error!r}")


def adopt(run: Run, each: Any, alias: str, pk: object, key: str) -> bool:
    """Adopt one key; what refuses it needs a person."""
    if run.dry:
        run.report.adopted += 1
        return True
    try:
        with promotion.atomic(alias):
            instance = _lock(each.model._base_manager.using(alias).filter(pk=pk), alias).first()
            if instance is None or getattr(instance, each.attname).name != key:
                return True  # somebody is changing it at this moment, or has
            claims.adopt(instance, [each], alias)
    except InvalidUpload as error:
        run.report.problems.append(f"{each.model._meta.label}(pk={pk!r}).{each.name} holds the key {key}: {error}")
        return False
    except OperationalError:
        logger.exception("%s(pk=%r) could not adopt %s now", each, pk, key)
        run.report.failed += 1
        return False
    except Exception as error:
        logger.exception("Could not adopt %s for %s(pk=%r)", key, each, pk)
        run.report.problems.append(f"{each.model._meta.label}(pk={pk!r}).{each.name} holds the key {key}: {error!r}")
        return False
    run.report.adopted += 1
    return True


def _lock(records: models.QuerySet[Any], alias: str) -> models.QuerySet[Any]:
    """Let records that somebody else is changing be left out, where the database can do that."""
    features = connections[alias].features
    if not features.has_select_for_update_skip_locked:
        return records
    return records.select_for_update(skip_locked=True, of=("self",) if features.has_select_for_update_of else ())


def iterate_records(each: Any, condition: dict[str, Any]) -> Iterator[tuple[str, object, str]]:
    """Yield what ``find_records`` returns, in batches by primary key; the records may be changed meanwhile."""
    seen: set[tuple[object, str]] = set()
    for alias in _aliases(each.model):
        records = each.model._base_manager.using(alias).filter(**condition).order_by("pk")
        batch = list(records.values_list("pk", each.attname)[:BATCH])
        while batch:
            for pk, key in batch:
                if (pk, key) not in seen:
                    yield alias, pk, key
            seen.update(batch)
            batch = list(records.filter(pk__gt=batch[-1][0]).values_list("pk", each.attname)[:BATCH])


def find_records(each: Any, condition: dict[str, Any]) -> list[tuple[str, object, str]]:
    """Return (alias, primary key, column) of the records of a field's model that a condition selects.

    A record that several databases have (a replica) is returned once, from the one that is written to.
    """
    return list(iterate_records(each, condition))
