"""The examples of the pages: all of them can be read by Python, their imports exist, and those marked are run."""

from __future__ import annotations

import ast
import importlib
import json
import sys
import types
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.test import Client, RequestFactory, override_settings
from django.urls import include, path

from async_uploads import testing
from async_uploads.registry import default_async_field_registry
from tests.docs.pages import Block, find_blocks
from tests.testapp.models import Document
from tus_server.engine import Engine
from tus_server.locks.memory import MemoryLocker
from tus_server.stores.filesystem import FilesystemStore
from tus_server.stores.memory import MemoryStore
from tus_server.wsgi import get_urls

PYTHON = find_blocks("python")
RUNNERS: dict[str, Callable[..., None]] = {}
OURS = ("async_uploads", "tus_server")


def name_of(block: Block) -> str:
    return f"{block.page}: {block.code.strip().splitlines()[0]}"


@pytest.mark.parametrize("block", PYTHON, ids=name_of)
def test_an_example_is_python_and_imports_what_exists(block: Block) -> None:
    for node in ast.walk(ast.parse(block.code.replace("…", "..."))):
        match node:
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in OURS:
                imported = importlib.import_module(module)
                for alias in node.names:
                    assert hasattr(imported, alias.name), f"{module} has no {alias.name}"
            case ast.Import():
                for alias in node.names:
                    if alias.name.split(".")[0] in OURS:
                        importlib.import_module(alias.name)


@pytest.mark.parametrize("block", find_blocks("json"), ids=name_of)
def test_an_example_is_json(block: Block) -> None:
    json.loads(block.code)


def test_every_marked_example_is_run_and_every_mark_is_there() -> None:
    assert {block.mark for block in find_blocks() if block.mark} == set(RUNNERS)


def runs(mark: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a test as the one that runs the example with a mark."""

    def register(test: Callable[..., None]) -> Callable[..., None]:
        RUNNERS[mark] = test
        return test

    return register


# Any: what an example defines.
def run(mark: str, replace: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run an example and return its names; ``replace`` puts texts of the test in the place of some of its own."""
    (block,) = [block for block in PYTHON if block.mark == mark]
    code = block.code
    for old, new in (replace or {}).items():
        assert old in code, f"{mark} does not contain {old!r}"
        code = code.replace(old, new)
    names: dict[str, Any] = {"__name__": f"example_{mark.replace('-', '_')}"}
    exec(compile(code, block.page, "exec"), names)
    return names


@pytest.fixture(autouse=True)
def papers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pages' model ``papers.models.Paper`` is our test app's ``Document``: a title and a file."""
    module = types.ModuleType("papers.models")
    module.Paper = Document  # type: ignore[attr-defined]
    package = types.ModuleType("papers")
    package.models = module  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "papers", package)
    monkeypatch.setitem(sys.modules, "papers.models", module)


@pytest.fixture(autouse=True)
def media(settings: Any, tmp_path: Path) -> None:
    settings.MEDIA_ROOT = tmp_path / "media"


def upload_by_tus(urlconf: str, address: str, content: bytes) -> str:
    """Upload by the test client; return the upload's path."""
    with override_settings(ROOT_URLCONF=urlconf):
        client = Client()
        headers = {"Tus-Resumable": "1.0.0"}
        created = client.generic("POST", address, headers={**headers, "Upload-Length": str(len(content))})
        assert created.status_code == 201, created.content
        sent = client.patch(
            created["Location"],
            content,
            content_type="application/offset+octet-stream",
            headers={**headers, "Upload-Offset": "0"},
        )
        assert sent.status_code == 204, sent.content
        assert sent["Upload-Offset"] == str(len(content))
    return str(created["Location"])


@runs("tus-endpoint")
def test_three_lines_serve_tus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run("tus-endpoint", replace={"/srv/uploads": str(tmp_path)})
    module = types.ModuleType("example_urls")
    module.urlpatterns = names["urlpatterns"]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "example_urls", module)
    location = upload_by_tus("example_urls", "/files/", b"hello")
    assert (tmp_path / "files" / location.rpartition("/")[2]).read_bytes() == b"hello"


@runs("tus-endpoint-hooks")
def test_hooks_decide_and_learn(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    hooks = run("tus-endpoint-hooks")["OurHooks"]()
    view = get_urls("files/", Engine(MemoryStore(), MemoryLocker(), hooks))[0].callback
    request = RequestFactory().generic("POST", "/files/", headers={"Tus-Resumable": "1.0.0", "Upload-Length": "0"})
    request.user = AnonymousUser()
    assert view(request).status_code == 403
    request.user = types.SimpleNamespace(is_authenticated=True)  # type: ignore[assignment]
    assert view(request).status_code == 201
    assert "0 bytes" in capsys.readouterr().out


@runs("tus-endpoint-limits")
def test_limits_are_a_config() -> None:
    assert run("tus-endpoint-limits")["config"].lifetime == timedelta(days=2)


@runs("tus-endpoint-expiry")
def test_expired_uploads_are_removed(tmp_path: Path) -> None:
    from tus_server.uploads import UploadRecord, generate_upload_id

    store = FilesystemStore(tmp_path)
    past = datetime(2020, 1, 1, tzinfo=UTC)
    upload_id = generate_upload_id()
    store.create(UploadRecord(upload_id, upload_id, 5, "", past, expires_at=past))
    run("tus-endpoint-expiry")["remove_expired"](store)
    assert list(tmp_path.iterdir()) == []


@runs("admin-mixin")
def test_the_admin_mixin_is_found_by_the_check() -> None:
    from async_uploads.forms import AsyncUploadAdminMixin

    assert issubclass(run("admin-mixin")["PaperAdmin"], AsyncUploadAdminMixin)


@runs("drf-serializer")
@pytest.mark.django_db
def test_the_serializer_takes_a_key() -> None:
    serializer_class = run("drf-serializer")["PaperSerializer"]
    key = testing.upload_file(Document.file, b"words", name="paper.pdf")
    serializer = serializer_class(data={"title": "On uploads", "file": {"key": key, "name": "paper.pdf"}})
    assert serializer.is_valid(), serializer.errors
    paper = serializer.save()
    assert read(paper) == b"words"
    assert set(serializer_class(paper).data["file"]) == {"key", "name", "url"}


@runs("drf-authenticate")
def test_a_request_without_token_has_no_user() -> None:
    authenticate = run("drf-authenticate")["authenticate"]
    assert authenticate(RequestFactory().get("/")) is None
    assert authenticate(RequestFactory().get("/", headers={"Authorization": "Token a b"})) is None


@runs("resolve-perm-name")
def test_names_of_permissions_are_replaceable(settings: Any) -> None:
    from async_uploads.permissions import resolve_perm_name

    settings.ASYNC_UPLOADS = {"RESOLVE_PERM_NAME": run("resolve-perm-name")["resolve_perm_name"]}
    assert resolve_perm_name(Document, "create", True) == "testapp.document_create"


@runs("form-mixin")
@pytest.mark.django_db
def test_the_form_refuses_somebody_elses_upload() -> None:
    form_class = run("form-mixin")["PaperForm"]
    key = testing.upload_file(Document.file, b"words", owner="user:1")
    request = RequestFactory().post("/")
    request.user = AnonymousUser()
    form = form_class({"title": "A", "file": key}, request=request)
    assert form.errors["file"] == ["Invalid upload received"]
    assert form_class({"title": "A", "file": key}).is_valid()


@runs("custom-storage")
@pytest.mark.django_db
def test_a_storage_of_three_methods_works(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = run("custom-storage")["VaultStorage"]()
    field = Document._meta.get_field("file")
    monkeypatch.setattr(field, "storage", storage)
    from async_uploads.models import AsyncTempFile

    row = AsyncTempFile.create_for_field(field, "deed.pdf")
    storage.vault[row.key] = b"words"
    assert storage.generate_upload_url(row.key, "x").startswith("https://vault.example.com/")
    form = models_form(Document)({"title": "A", "file": row.key})
    assert form.is_valid(), form.errors
    document = form.save()
    assert document.file.name == "docs/deed.pdf"
    from async_uploads.promotion import promote

    row.refresh_from_db()
    assert promote(row)
    storage.move_file(row.key, document.file.name)
    assert storage.vault == {"docs/deed.pdf": b"words"}


def read(document: Document) -> bytes:
    with document.file.open() as file:
        content: bytes = file.read()
    return content


def models_form(model: type[models.Model]) -> Any:
    from django.forms import modelform_factory

    return modelform_factory(model, fields=["title", "file"])


@runs("testing")
@pytest.mark.django_db
def test_the_tests_of_the_page_pass(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.views.generic import CreateView

    names = run("testing")
    view = CreateView.as_view(model=Document, fields=["title", "file"], success_url="/")
    module = types.ModuleType("example_urls")
    uploads = default_async_field_registry.get_url_patterns()
    module.urlpatterns = [path("papers/add/", view), path("uploads/", include(uploads))]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "example_urls", module)
    with override_settings(ROOT_URLCONF="example_urls"):
        names["test_the_form_takes_a_paper"](admin_client)
    names["test_the_model_takes_a_paper"](None)


@runs("testing-on-commit")
@pytest.mark.django_db
def test_the_test_of_the_page_that_commits_passes(django_capture_on_commit_callbacks: Any) -> None:
    run("testing-on-commit")["test_the_file_is_moved"](None, django_capture_on_commit_callbacks)


@runs("cleanup-task")
@pytest.mark.django_db
def test_the_cleanup_can_be_called(capsys: pytest.CaptureFixture[str]) -> None:
    run("cleanup-task")["clean_up"]()
    assert capsys.readouterr().out == ""


@runs("tuspy")
@pytest.mark.django_db(transaction=True)
def test_tuspy_uploads_for_a_field(
    live_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from django.urls import reverse

    monkeypatch.chdir(tmp_path)
    (tmp_path / "talk.mp4").write_bytes(b"words" * 1000)
    address = live_server.url + reverse(default_async_field_registry.tus_url_name)
    field_id = default_async_field_registry.generate_id(Document._meta.get_field("file"))
    run("tuspy", replace={"https://example.com/uploads/tus/": address, "papers.Paper.file": field_id})
    url = capsys.readouterr().out.strip()
    form = models_form(Document)({"title": "A talk", "file": url})
    assert form.is_valid(), form.errors
    document = form.save()
    assert read(document) == b"words" * 1000
    assert document.file.storage.stored_size(document.file.name) == 5000
