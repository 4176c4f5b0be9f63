"""The build hook: puts the browser's half, built by npm, into packages that are made from a git checkout.

A source distribution carries the built files, so nothing is built there. Where npm is missing, the package is made
with the bundle that is there, or without one: the widget is then a plain file input. ``ASYNC_UPLOADS_BUNDLE=required``
makes every such case an error; releases set it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FRONTEND = Path("async_uploads/frontend")
BUNDLE = Path("async_uploads/static/async_uploads/async-uploads.js")


class BundleBuildHook(BuildHookInterface):  # type: ignore[type-arg]  # Any: hatchling's own configuration type
    """Runs before the files of a package are collected."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the bundle, or say what is missing. ``version`` is "editable" for an editable install."""
        root = Path(self.root)
        if version == "editable":
            return  # a developer's checkout: `make frontend` builds it
        problem = self.build(root) if (root / ".git").exists() else None
        if not (root / BUNDLE).is_file():
            problem = problem or f"{BUNDLE} is missing from this source tree"
        if problem is None:
            return
        if os.environ.get("ASYNC_UPLOADS_BUNDLE") == "required":
            raise RuntimeError(f"{problem}, and ASYNC_UPLOADS_BUNDLE=required")
        rest = "the bundle that was there is used" if (root / BUNDLE).is_file() else "the widget is a plain file input"
        self.app.display_warning(f"{problem}: {rest}.")

    def build(self, root: Path) -> str | None:
        """Run npm; answers what went wrong."""
        npm = shutil.which("npm")
        if npm is None:
            return "npm is not installed"
        for command in (["ci", "--ignore-scripts", "--no-audit", "--no-fund"], ["run", "build"]):
            if subprocess.run([npm, *command], cwd=root / FRONTEND, check=False).returncode:
                return f"`npm {' '.join(command)}` failed"
        return None
