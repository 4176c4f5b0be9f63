"""What a run needs, installed below ``.build/bench``, each part once. What went wrong is kept for the result.

Nothing outside of the checkout is changed. nginx and PostgreSQL are used where the machine has them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.processes import ROOT

NATIVE = Path(__file__).resolve().parent / "native"
#: Exact versions, so that two runs a month apart measure the same peers.
NODE_PACKAGES = (
    "@tus/server@2.4.5",
    "@tus/file-store@2.1.1",
    "@tus/s3-store@2.0.7",
    "@tus/azure-store@2.0.2",
)
TUSPYSERVER = ("tuspyserver==4.4.3", "fastapi", "uvicorn[standard]")
#: Its signals are Django 3's.
DJANGO_TUS = ("django-tus==0.5.0", "gunicorn", "Django~=3.2.0", "setuptools<81")
OUR_PACKAGES = ("gunicorn>=23", "uvicorn[standard]>=0.30", "granian>=2", "psycopg[binary]>=3.2", "Django~=5.2.0")
TUSD, TUSD_VERSION = "github.com/tus/tusd/v2", "v2.9.2"
RUSTUS = "rustus@0.5.10"
TIMEOUT = 3600


class Unavailable(RuntimeError):
    """A part cannot be had on this machine; the message is the end of the tool's error."""


@dataclass
class Tools:
    """Installs parts on demand.

    Args:
        directory: Where to.
        interpreter: A Python that has everything of ours, instead of an environment of the suite's own.
    """

    directory: Path = ROOT / ".build" / "bench"
    interpreter: Path | None = None
    found: dict[str, Path] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    def get(self, part: str) -> Path:
        """Return where a part is, after installing it where needed.

        Raises:
            Unavailable: It cannot be installed. Asked once per run.
        """
        if part in self.problems:
            raise Unavailable(self.problems[part])
        if part not in self.found:
            try:
                self.found[part] = PARTS[part](self)
            except Unavailable as problem:
                self.problems[part] = str(problem)
                raise
        return self.found[part]

    def native(self, name: str) -> Path:
        """Compile one of the C programs."""
        source, target = NATIVE / f"{name}.c", self.directory / "bin" / name
        headers = b"".join(each.read_bytes() for each in sorted(NATIVE.glob("*.h")))
        digest = hashlib.sha256(source.read_bytes() + headers).hexdigest()

        def build() -> None:
            target.parent.mkdir(parents=True, exist_ok=True)
            compiler = os.environ.get("CC", "cc")
            run([compiler, "-O2", "-Wall", "-pthread", "-o", str(target), str(source)])

        self._once(target.with_suffix(".stamp"), digest, build)
        return target

    def node(self) -> Path:
        """Install the Node packages."""
        directory = self.directory / "node"
        find_program("node")

        def build() -> None:
            directory.mkdir(parents=True, exist_ok=True)
            (directory / "package.json").write_text(json.dumps({"private": True}))
            run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *NODE_PACKAGES], cwd=directory)

        self._once(directory / "stamp", " ".join(NODE_PACKAGES), build)
        return directory

    def tusd(self) -> Path:
        """Build tusd with the machine's Go."""
        target = self.directory / "go" / "bin" / "tusd"
        find_program("go")

        def build() -> None:
            sources = self.directory / "go" / "src"
            shutil.rmtree(sources, ignore_errors=True)
            sources.mkdir(parents=True)
            # Not `go install`: that asks for the list of versions, which not every proxy has.
            requirement = f"module benchmark.invalid/tusd\n\nrequire {TUSD} {TUSD_VERSION}\n"
            (sources / "go.mod").write_text(requirement)
            run(["go", "build", "-mod=mod", "-p", "1", "-o", str(target), f"{TUSD}/cmd/tusd"], cwd=sources)

        self._once(target.with_suffix(".stamp"), TUSD_VERSION, build)
        return target

    def rustus(self) -> Path:
        """Build rustus with the machine's Cargo."""
        directory = self.directory / "cargo"
        find_program("cargo")

        def build() -> None:
            environment = {**os.environ, "CARGO_TARGET_DIR": str(self.directory / "cargo-target")}
            run(["cargo", "install", RUSTUS, "--locked", "-j", "1", "--root", str(directory)], environment=environment)

        self._once(directory / "stamp", RUSTUS, build)
        return directory / "bin" / "rustus"

    def tuspyserver(self) -> Path:
        """Make the environment of tuspyserver and return its interpreter."""
        return self._environment("tuspyserver", TUSPYSERVER)

    def django_tus(self) -> Path:
        """Make the environment of django-tus and return its interpreter."""
        return self._environment("django-tus", DJANGO_TUS)

    def ours(self) -> Path:
        """Return a Python that has this checkout and the servers it is measured under."""
        if self.interpreter is not None:
            return self.interpreter
        return self._environment("ours", ("--editable", f"{ROOT}[s3,azure]", *OUR_PACKAGES))

    def _environment(self, name: str, packages: Sequence[str]) -> Path:
        directory = self.directory / name
        python = directory / "bin" / "python"

        def build() -> None:
            run([sys.executable, "-m", "venv", str(directory)])
            run([str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *packages], cwd=ROOT)

        self._once(directory / "stamp", " ".join(packages).replace(str(ROOT), ""), build)
        return python

    @staticmethod
    def _once(stamp: Path, wanted: str, build: Callable[[], None]) -> None:
        if stamp.is_file() and stamp.read_text() == wanted:
            return
        build()
        stamp.write_text(wanted)


def run(command: Sequence[str], cwd: Path | None = None, environment: dict[str, str] | None = None) -> None:
    """Run a command of an installation, at a low priority.

    Raises:
        Unavailable: It failed.
    """
    try:
        done = subprocess.run(
            ["nice", "-n", "15", *command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=TIMEOUT
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(str(error)) from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise Unavailable(without_addresses("\n".join(lines[-5:])))


def without_addresses(text: str) -> str:
    """Remove addresses and this machine's paths from what a tool printed: a result may be published."""
    words = [word if "://" not in word and str(ROOT) not in word else "..." for word in text.split(" ")]
    return " ".join(words)


def find_program(name: str) -> Path:
    """Return a program of the machine's.

    Raises:
        Unavailable: There is none.
    """
    found = shutil.which(name) or next((path for path in (f"/usr/sbin/{name}",) if Path(path).exists()), None)
    if found is None:
        raise Unavailable(f"there is no {name} on this machine")
    return Path(found)


PARTS: dict[str, Callable[[Tools], Path]] = {
    "load": lambda tools: tools.native("load"),
    "ceiling": lambda tools: tools.native("ceiling"),
    "sink": lambda tools: tools.native("sink"),
    "node": Tools.node,
    "tusd": Tools.tusd,
    "rustus": Tools.rustus,
    "tuspyserver": Tools.tuspyserver,
    "django-tus": Tools.django_tus,
    "ours": Tools.ours,
    "nginx": lambda tools: find_program("nginx"),
}
