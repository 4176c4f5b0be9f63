"""Looks into the built sdist and wheel: what must be in them is, what must not be is not.

Usage: ``python scripts/check_packages.py DIRECTORY``
"""

from __future__ import annotations

import sys
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

STATIC = "async_uploads/static/async_uploads"
NEEDED = (
    "async_uploads/py.typed",
    "tus_server/py.typed",
    "async_uploads/templates/async_uploads/widgets/async_upload.html",
    "async_uploads/migrations/0001_initial.py",
    f"{STATIC}/async-uploads.js",
    f"{STATIC}/async-uploads.esm.js",
    f"{STATIC}/async-uploads.css",
    f"{STATIC}/THIRD_PARTY.txt",
)
WHEEL_PACKAGES = ("async_uploads/", "tus_server/", "django_async_uploads-")


def complaints(name: str, files: Iterable[str]) -> list[str]:
    """What is wrong with a package that holds these files."""
    files = set(files)
    found = [f"{name} lacks {needed}" for needed in NEEDED if needed not in files]
    found += [f"{name} contains {file}" for file in sorted(files) if "node_modules/" in file]
    if name.endswith(".whl"):
        foreign = {file for file in files if not file.startswith(WHEEL_PACKAGES)}
        foreign |= {file for file in files if file.startswith("async_uploads/frontend/")}
        found += [f"{name} contains {file}" for file in sorted(foreign)]
    elif "async_uploads/frontend/package.json" not in files:
        found.append(f"{name} lacks the sources of the bundle")
    return found


def main(directory: Path) -> None:
    """Check the one sdist and the one wheel of a directory."""
    (wheel,) = directory.glob("*.whl")
    (sdist,) = directory.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        found = complaints(wheel.name, archive.namelist())
    with tarfile.open(sdist) as tar:
        found += complaints(sdist.name, (name.partition("/")[2] for name in tar.getnames()))
    if found:
        raise SystemExit("\n".join(found))
    print(f"{wheel.name} and {sdist.name} hold what they must.")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
