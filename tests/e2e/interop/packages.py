"""The npm packages whose scripts meet ours in the browser, installed once into ``.build/e2e``."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

from tests.e2e.site import ROOT

#: Exact versions: a new release must not turn our tests red overnight.
PACKAGES = (
    "@hotwired/turbo@8.0.23",
    "@uppy/core@6.3.1",
    "@uppy/tus@6.0.0",
    "esbuild@0.28.2",
    "htmx-2@npm:htmx.org@2.0.11",
    "htmx-4@npm:htmx.org@4.0.1",
)
SCRIPTS = {
    "turbo.js": "@hotwired/turbo/dist/turbo.es2017-umd.js",
    "htmx-2.js": "htmx-2/dist/htmx.js",
    "htmx-4.js": "htmx-4/dist/htmx.js",
}


def install_packages() -> Path:
    """Install what is missing and return ``node_modules``; several test processes may ask at once."""
    directory = ROOT / ".build" / "e2e"
    directory.mkdir(parents=True, exist_ok=True)
    stamp = directory / "installed"
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != " ".join(PACKAGES):
            (directory / "package.json").write_text('{"private": true}\n')
            options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-save", "--loglevel=error"]
            subprocess.run(
                ["npm", "install", *options, *PACKAGES], cwd=directory, check=True, capture_output=True, timeout=300
            )
            stamp.write_text(" ".join(PACKAGES))
    return directory / "node_modules"


def collect_scripts(target: Path) -> None:
    """Put every foreign script where the site finds its static files."""
    packages = install_packages()
    (target / "interop").mkdir(parents=True)
    for name, source in SCRIPTS.items():
        shutil.copyfile(packages / source, target / "interop" / name)
    entry = Path(__file__).parent / "uppy.js"
    bundle = ["--bundle", "--format=iife", f"--outfile={target / 'interop' / 'uppy.js'}", "--log-level=error"]
    subprocess.run(
        [packages / ".bin" / "esbuild", str(entry), *bundle],
        env={**os.environ, "NODE_PATH": str(packages)},
        check=True,
        timeout=300,
    )
