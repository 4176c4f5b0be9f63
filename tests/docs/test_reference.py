"""The reference says what the code does: each table is compared with what it describes."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import re
from datetime import timedelta

from async_uploads import conf, models, registry
from async_uploads.batches import Report
from async_uploads.management.commands.cleanup_async_temp_files import Command
from async_uploads.storage.base import AsyncUploadStorage
from tests.docs.pages import ROOT, codes_in, read_table
from tus_server import errors
from tus_server.config import TusConfig
from tus_server.hooks import Hooks
from tus_server.stores.memory import MemoryStore

FRONTEND = ROOT / "async_uploads" / "frontend"


def test_settings_are_those_of_conf() -> None:
    documented = {
        codes_in(name)[0]: default for name, default, _ in read_table("reference/settings", "| name | default |")
    }
    assert set(documented) == set(conf.DEFAULTS)
    for name, default in documented.items():
        expected = conf.DEFAULTS[name]
        if isinstance(expected, timedelta):
            assert default == "`timedelta(days=7)`", name
        else:
            assert ast.literal_eval(codes_in(default)[0]) == expected, name


def list_errors() -> dict[str, tuple[int, str]]:
    classes = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, errors.TusError)]
    return {each.__name__: (each.status, each.code) for each in classes}


def test_errors_are_those_of_the_tree() -> None:
    documented = {
        name: (int(status), codes_in(code)[0])
        for status, code, names, _ in read_table("reference/errors", "| status | code | class |")
        for name in codes_in(names)
    }
    assert documented == list_errors()


def find_codes(*packages: str) -> set[str]:
    """Return the codes that are given to errors of the tus tree, where they are raised."""
    tree = set(list_errors()) | {"InvalidParameter"}
    found = set()
    for package in packages:
        for path in (ROOT / package).rglob("*.py"):
            if "testing" in path.parts or "frontend" in path.parts:
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                match node:
                    case ast.Call(func=ast.Name(id=name)) if name in tree:
                        values = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
                        found |= {value.value for value in values if isinstance(value, ast.Constant)}
    return {code for code in found if isinstance(code, str)}


def test_more_precise_codes_are_those_that_are_raised() -> None:
    documented = {code for row in read_table("reference/errors", "| code | status |") for code in codes_in(row[0])}
    internal = {"invalid_date"}  # of a parser that only the clients of tests use
    assert documented - {"invalid_parameter"} == find_codes("tus_server", "async_uploads") - internal


def test_checks_are_those_that_are_registered() -> None:
    sources = [ROOT / "async_uploads" / "checks.py", *(ROOT / "async_uploads" / "storage").glob("*.py")]
    source = "\n".join(path.read_text() for path in sources)
    levels = {"E": "error", "W": "warning", "I": "info"}
    documented = {codes_in(each)[0]: level for each, level, _, _ in read_table("reference/checks", "| id | level |")}
    registered = re.findall(r'id="(async_uploads\.([EWI])\d+)"', source)
    registered += [(f"async_uploads.{number}", number[0]) for number in re.findall(r'"([EWI][12]\d\d)"', source)]
    assert documented == {each: levels[letter] for each, letter in registered}


def test_the_commands_options_are_its_parsers() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    Command().add_arguments(parser)  # type: ignore[arg-type]  # Django's own parser only adds its own options
    defaults = {action.option_strings[0]: action.default for action in parser._actions}
    documented = {codes_in(name)[0]: default for name, default, _ in read_table("reference/command", "| option |")}
    assert set(documented) == set(defaults)
    assert documented["--age"] == f"`{defaults['--age']}`"
    how_to = {codes_in(name)[0].split()[0] for name, _ in read_table("how-to/cleanup", "| option |")}
    assert how_to == set(defaults)


def test_the_commands_report_has_the_members_of_the_report() -> None:
    documented = [codes_in(name)[0] for name, _ in read_table("reference/command", "| member |")]
    assert set(documented) == {field.name for field in dataclasses.fields(Report)} | {"dry_run"}


def test_arguments_of_the_fields_are_those_of_the_signatures() -> None:
    documented = {codes_in(row[0])[0] for row in read_table("reference/fields", "| argument | default |")}
    ours = inspect.signature(models.AsyncFileField.__init__).parameters
    images = inspect.signature(models.AsyncImageField.__init__).parameters
    given = {name for name, parameter in [*ours.items(), *images.items()] if parameter.kind is parameter.KEYWORD_ONLY}
    assert documented == given
    rows = {codes_in(row[0])[0]: row[1] for row in read_table("reference/fields", "| argument | default |")}
    assert rows["max_size"] == f"`{models.default_max_size}`"
    assert rows["max_length"] == f"`{models.default_max_length}`"


def test_methods_of_storages_exist() -> None:
    for name, *_ in read_table("reference/storages", "| name | default |"):
        assert hasattr(AsyncUploadStorage, re.match(r"`(\w+)", name)[1]), name  # type: ignore[index]  # the table has it


def test_routes_are_those_of_a_registry() -> None:
    documented = {codes_in(row[0])[0] for row in read_table("reference/views", "| route |")}
    patterns = {str(pattern.pattern) for pattern in registry.default_async_field_registry.get_url_patterns()}
    assert documented - {"tus/<upload id>"} == {text for text in patterns if text.endswith("/")}
    assert "^tus/(?P<upload_id>.+?)/?$" in patterns


def test_tus_extensions_are_those_that_the_stores_declare() -> None:
    from tus_server.stores.base import extensions_of

    rows = read_table("reference/tus-protocol", "| extension |")
    offered = {codes_in(name)[0] for name, text in rows if text.startswith("yes")}
    assert offered == set(extensions_of(MemoryStore()))


def test_the_engines_hooks_and_limits_are_all_named() -> None:
    page = "reference/tus-server"
    hooks = {re.match(r"`(\w+)", row[0])[1] for row in read_table(page, "| hook |")}  # type: ignore[index]  # as above
    assert hooks == {name for name in vars(Hooks) if not name.startswith("_")}
    limits = {codes_in(row[0])[0] for row in read_table(page, "| member | default |")}
    assert limits == {field.name for field in dataclasses.fields(TusConfig)}


def read_scripts() -> str:
    return "\n".join(path.read_text() for path in sorted((FRONTEND / "src").glob("*.ts")))


def test_events_of_the_element_are_those_it_sends() -> None:
    documented = {codes_in(row[0])[0] for row in read_table("reference/element", "| event |")}
    sent = set(re.findall(r'emit\("([a-z-]+)"', read_scripts()))
    sent |= {name for pair in re.findall(r'emit\(\w+ \? "([a-z-]+)" : "([a-z-]+)"', read_scripts()) for name in pair}
    assert documented == {f"async-upload:{name}" for name in sent}


def test_attributes_of_the_element_are_those_it_reads_or_sets() -> None:
    documented = {code for row in read_table("reference/element", "| attribute |") for code in codes_in(row[0])}
    read = set(re.findall(r'this\.get\("([a-z-]+)"\)', read_scripts()))
    kept = set(re.findall(r'(?:set|toggle)Attribute\("(state|dragging)"', read_scripts()))
    assert documented == read | kept


def test_states_of_the_element_are_those_of_its_type() -> None:
    documented = [codes_in(row[0])[0] for row in read_table("reference/element", "| value of `state` |")]
    declaration = re.search(r"export type State = (.*);", (FRONTEND / "src" / "states.ts").read_text())
    assert declaration is not None
    assert documented == re.findall(r'"(\w+)"', declaration[1])


def test_style_variables_are_those_of_the_style_sheet() -> None:
    documented = {codes_in(row[0])[0] for row in read_table("reference/element", "| variable |")}
    assert documented == set(re.findall(r"var\((--async-upload-[a-z-]+)", (FRONTEND / "async-uploads.css").read_text()))


def test_what_is_there_is_not_said_to_be_missing() -> None:
    missing = " ".join(row[0] for row in read_table("explanation/not-yet", "| what |"))
    storages = (ROOT / "async_uploads" / "storage").glob("*.py")
    code = "\n".join(path.read_text() for path in storages)
    built = set(re.findall(r"^class (\w+AsyncUploadStorage)", code, re.MULTILINE))
    assert "S3AsyncUploadStorage" in built
    assert not built & set(codes_in(missing))


def test_columns_of_the_journal_are_those_of_the_model() -> None:
    documented = [name for row in read_table("reference/journal", "| column |") for name in codes_in(row[0])]
    assert sorted(documented) == sorted(field.name for field in models.AsyncTempFile._meta.concrete_fields)
