"""The build hook: when it builds the bundle, when it warns and when it fails."""

from __future__ import annotations

import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from hatch_build import BUNDLE, FRONTEND, BundleBuildHook


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git checkout without a bundle, on a machine without npm."""
    monkeypatch.delenv("ASYNC_UPLOADS_BUNDLE", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for directory in (".git", "bin", FRONTEND):
        (tmp_path / directory).mkdir(parents=True)
    return tmp_path


def install_npm(tree: Path, script: str) -> None:
    """An npm of our own; it runs in the front end's directory."""
    npm = tree / "bin" / "npm"
    npm.write_text(f"#!/bin/sh\nPATH={os.defpath}\n{script}\n")
    npm.chmod(0o755)


def write_bundle(tree: Path) -> None:
    (tree / BUNDLE).parent.mkdir(parents=True)
    (tree / BUNDLE).write_text("from before")


def build(tree: Path, version: str = "standard") -> list[str]:
    """Run the hook; answers its warnings."""
    app = Mock()
    hook = BundleBuildHook(str(tree), {}, Mock(), Mock(), str(tree / "dist"), "wheel", app)
    hook.initialize(version, {})
    return [call.args[0] for call in app.display_warning.call_args_list]


def test_a_checkout_is_built_by_npm(tree: Path) -> None:
    bundle = tree / BUNDLE
    install_npm(tree, f'echo "$@" >> {tree}/calls; mkdir -p {bundle.parent}; echo built > {bundle}')
    assert build(tree) == []
    assert (tree / "calls").read_text().splitlines() == ["ci --ignore-scripts --no-audit --no-fund", "run build"]
    assert bundle.read_text() == "built\n"


def test_without_npm_the_package_is_made_with_a_warning(tree: Path) -> None:
    assert build(tree) == ["npm is not installed: the widget is a plain file input."]


def test_without_npm_the_bundle_that_is_there_is_used(tree: Path) -> None:
    write_bundle(tree)
    assert build(tree) == ["npm is not installed: the bundle that was there is used."]


def test_a_failing_build_is_a_warning(tree: Path) -> None:
    install_npm(tree, '[ "$1" = ci ]')
    assert build(tree) == ["`npm run build` failed: the widget is a plain file input."]


@pytest.mark.parametrize("npm", [None, "exit 1", "exit 0"], ids=["missing", "failing", "building nothing"])
def test_a_required_bundle_that_cannot_be_built_is_an_error(
    tree: Path, monkeypatch: pytest.MonkeyPatch, npm: str | None
) -> None:
    monkeypatch.setenv("ASYNC_UPLOADS_BUNDLE", "required")
    if npm:
        install_npm(tree, npm)
    with pytest.raises(RuntimeError, match="ASYNC_UPLOADS_BUNDLE=required"):
        build(tree)


def test_a_source_distribution_is_not_built_again(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASYNC_UPLOADS_BUNDLE", "required")
    (tree / ".git").rmdir()
    write_bundle(tree)
    assert build(tree) == []


def test_an_editable_installation_builds_nothing(tree: Path) -> None:
    assert build(tree, "editable") == []
