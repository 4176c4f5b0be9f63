"""Statements that every request of an upload makes: compiled once for a connection, then only run.

To build a query and compile it costs Django's ORM ten times what SQLite takes to run it. So Django compiles each
statement here with slots for its values, which is kept beside the connection; every database gets its own SQL, and
values, results and errors pass through the same fields, converters and cursors as with a query set.

Rules for editors: what a query set is made of must not depend on the request, but for the values of its slots.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Generic, TypeVar

from django.conf import settings
from django.db import connections, models, transaction
from django.db.models import Expression, Field, QuerySet
from django.db.models.signals import post_save, pre_save
from django.db.models.sql import InsertQuery, UpdateQuery

M = TypeVar("M", bound=models.Model)

#: Where a connection keeps its compiled statements, in its own dictionary.
_PLACE = "_async_uploads_statements"


class Slot(Expression):
    """The place of a value that a statement is given whenever it is run.

    Args:
        name: The value's name.
        field: What the value is for the database (Any: as Django's stubs have it).
    """

    def __init__(self, name: str, field: Field[Any, Any]) -> None:
        super().__init__(output_field=field)
        self.name = name

    # Any: compilers and connections have no types that both supported versions share.
    def as_sql(self, compiler: Any, connection: Any) -> Any:
        """Leave a mark among the parameters."""
        return "%s", [self]


def slot(model: type[models.Model], name: str) -> Slot:
    """Return the slot of a column's value, under the column's name."""
    return Slot(name, model._meta.get_field(name))  # type: ignore[arg-type]  # no relation is asked for


class _Compiled:
    """A statement for one connection. Any: as of ``Slot.as_sql``."""

    def __init__(self, sql: str, parameters: Iterable[Any]) -> None:
        self.sql = sql
        self._parameters = [
            (each.name, each.output_field, _keeps_text(each.output_field))
            if isinstance(each, Slot)
            else ("", each, False)
            for each in parameters
        ]

    def bind(self, values: Mapping[str, Any], connection: Any) -> tuple[Any, ...]:
        return tuple(
            _prepare(each, values[name], connection, keeps_text) if name else each
            for name, each, keeps_text in self._parameters
        )


def _prepare(field: Any, value: Any, connection: Any, keeps_text: bool) -> Any:
    # Every field makes NULL of nothing, and those for text make text of text, by many calls.
    if value is None or (keeps_text and type(value) is str):
        return value
    return field.get_db_prep_save(value, connection)


def _keeps_text(field: Any) -> bool:
    """Say whether a field's values are prepared as Django's own fields for text do, which changes no text."""
    kind = type(field)
    base = next((each for each in (models.CharField, models.TextField) if isinstance(field, each)), None)
    names = ("get_db_prep_save", "get_db_prep_value", "get_prep_value", "to_python")
    return base is not None and all(getattr(kind, name) is getattr(base, name) for name in names)


class _Statement(Generic[M]):
    """What all kinds share. The functions and values that they are made of are asked once for each connection."""

    def _compile(self, using: str) -> Any:
        raise NotImplementedError

    def _prepare(self, using: str) -> Any:
        """Return the statement compiled for this thread's connection to a database."""
        # MySQL's converters, chosen while compiling, depend on the setting.
        known = vars(connections[using]).setdefault(_PLACE, {})
        mark = (self, settings.USE_TZ)
        if mark not in known:
            known[mark] = self._compile(using)
        return known[mark]


class Update(_Statement[M]):
    """An UPDATE.

    Args:
        find: Returns the rows, with slots in their condition.
        columns: What is written (Any: values, expressions, slots).
    """

    def __init__(self, find: Callable[[], QuerySet[M]], **columns: Any) -> None:
        self._find = find
        self._columns = columns

    def run(self, using: str, **values: Any) -> int:
        """Run it on a database with the values of its slots, and return how many rows met the condition."""
        compiled, connection = self._prepare(using), connections[using]
        with transaction.mark_for_rollback_on_error(using=using), connection.cursor() as cursor:
            cursor.execute(compiled.sql, compiled.bind(values, connection))
            return int(cursor.rowcount)

    def _compile(self, using: str) -> _Compiled:
        query: Any = self._find().using(using).query.chain(UpdateQuery)  # Any: the stubs say it stays what it was
        query.add_update_values(self._columns)
        return _Compiled(*query.get_compiler(using).as_sql())


class Insert(_Statement[M]):
    """An INSERT of one whole row, whose primary key the database chooses and nobody asks for.

    Where somebody listens to the model's signals, the row is saved as usual.

    Args:
        model: The row's.
        columns: What the database computes for each row (Any: expressions); the rows themselves have the same there.
    """

    def __init__(self, model: type[M], **columns: Any) -> None:
        self._model = model
        self._columns = columns
        self._fields = [field for field in model._meta.local_concrete_fields if not isinstance(field, models.AutoField)]

    def run(self, using: str, row: M) -> None:
        """Store a row that is not stored yet."""
        if any(signal.has_listeners(self._model) for signal in (pre_save, post_save)):
            row.save(using=using, force_insert=True)
            return
        values = {field.attname: field.pre_save(row, add=True) for field in self._fields}
        compiled, connection = self._prepare(using), connections[using]
        with transaction.mark_for_rollback_on_error(using=using), connection.cursor() as cursor:
            cursor.execute(compiled.sql, compiled.bind(values, connection))

    def _compile(self, using: str) -> _Compiled:
        slots = {field.attname: Slot(field.attname, field) for field in self._fields}
        row: Any = SimpleNamespace(**{**slots, **self._columns})
        query = InsertQuery(self._model)
        query.insert_values(self._fields, [row])
        ((sql, parameters),) = query.get_compiler(using).as_sql()
        return _Compiled(sql, parameters)


class Select(_Statement[M]):
    """A SELECT of whole rows, of which the first is returned; the condition should leave no more than one.

    Args:
        find: Returns the rows, with slots in their condition, perhaps with ``select_related`` of one level.
    """

    def __init__(self, find: Callable[[], QuerySet[M]]) -> None:
        self._find = find

    def first(self, using: str, **values: Any) -> M | None:
        """Run it on a database with the values of its slots."""
        compiled, connection = self._prepare(using), connections[using]
        with connection.cursor() as cursor:
            cursor.execute(compiled.sql, compiled.bind(values, connection))
            row = cursor.fetchone()
        return None if row is None else compiled.build(row)

    def _compile(self, using: str) -> _CompiledSelect:
        return _CompiledSelect(self._find().using(using).query.get_compiler(using), using)


class _CompiledSelect(_Compiled):
    """A SELECT, and how its rows become models, with what ``select_related`` read along: as a query set does it."""

    def __init__(self, compiler: Any, using: str) -> None:
        super().__init__(*compiler.as_sql())
        self._compiler, self._using = compiler, using
        self._converters = compiler.get_converters([each[0] for each in compiler.select])
        self._own = self._find_columns(compiler.klass_info)
        self._related = [
            (self._find_columns(info), info["local_setter"], info["remote_setter"])
            for info in compiler.klass_info.get("related_klass_infos", ())
        ]

    def _find_columns(self, info: Any) -> tuple[Any, Sequence[str], slice, int]:
        """Return a model, the names of its columns, where they stand in a row, and where its key does."""
        start, end = info["select_fields"][0], info["select_fields"][-1] + 1
        names = [each[0].target.attname for each in self._compiler.select[start:end]]
        return info["model"], names, slice(start, end), start + names.index(info["model"]._meta.pk.attname)

    def build(self, row: Any) -> Any:
        values = next(iter(self._compiler.apply_converters([row], self._converters)))
        model, names, columns, _ = self._own
        built = model.from_db(self._using, names, values[columns])
        for (model, names, columns, key), set_here, set_there in self._related:
            other = None if values[key] is None else model.from_db(self._using, names, values[columns])
            set_here(built, other)
            if other is not None:
                set_there(other, built)
        return built
