"""Virtual environments for both ends of what we support: the oldest and the newest (Python, Django) on this machine.

    python scripts/environments.py install [GROUP]    .venv, the oldest pair, with a dependency group (default: dev)
    python scripts/environments.py test [--everywhere] [PYTEST ARGUMENT ...]

``test`` runs the suite on both ends, on PostgreSQL and on MariaDB. Tests marked ``e2e`` drive browsers and servers and
take most of the time; in a run of the whole suite without ``--everywhere`` they run on the oldest pair only. Needs
nothing but the standard library; a second call finds the stamps of the first and installs nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
OLDEST_DJANGO, NEWEST_DJANGO = "Django~=5.2.0", "Django>=6.0,<7"
NEWEST_DJANGO_NEEDS = PYTHONS.index("3.12")


@dataclass(frozen=True)
class Environment:
    """One virtual environment of the checkout, with the Django that belongs into it."""

    directory: Path
    interpreter: Path
    django: str

    @property
    def python(self) -> Path:
        """The environment's own interpreter."""
        return self.directory / "bin" / "python"

    def install(self, group: str = "dev") -> None:
        """Create the environment where it is missing and bring its packages up to ``pyproject.toml``."""
        stamp = self.directory / f".installed-{group}"
        wanted = requirements_digest(self.django)
        if stamp.is_file() and stamp.read_text() == wanted:
            return
        if not self.python.exists():
            run(self.interpreter, "-m", "venv", self.directory)
        pip = (self.python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
        run(*pip, "pip>=25.1")  # the first that knows dependency groups
        run(*pip, "--group", group, "--editable", ".", self.django)
        stamp.write_text(wanted)

    def describe(self) -> str:
        """The versions that are really there, as "Python 3.11.7, Django 5.2.19"."""
        code = "import platform, django; print(f'Python {platform.python_version()}, Django {django.__version__}')"
        return subprocess.check_output([self.python, "-c", code], text=True).strip()


def requirements_digest(*more: str) -> str:
    """A fingerprint of everything in ``pyproject.toml`` that decides which packages are installed."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = pyproject["project"]
    parts = [project["dependencies"], project["optional-dependencies"], pyproject["dependency-groups"], more]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def run(*command: str | Path, env: Mapping[str, str] | None = None) -> None:
    """Run a command in the checkout; a failure ends this program with a sentence and the command's exit status."""
    status = subprocess.run(command, cwd=ROOT, env=env, check=False).returncode
    if status:
        print(f"failed with status {status}: {' '.join(map(str, command))}", file=sys.stderr)
        raise SystemExit(status if status > 0 else 1)


def find_interpreter(version: str) -> Path | None:
    """A Python of this version that can make virtual environments: on the PATH, or among pyenv's."""
    return next((path for path in candidates(version) if can_make_environments(path, version)), None)


def candidates(version: str) -> Iterator[Path]:
    """Where a Python of this version may be; pyenv's shims on the PATH fail for versions that are not activated."""
    yield Path(getattr(sys, "_base_executable", sys.executable))
    for name in (f"python{version}", "python3"):
        if found := shutil.which(name):
            yield Path(found)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"), reverse=True)


def can_make_environments(interpreter: Path, version: str) -> bool:
    """Ask the interpreter itself: Debian's lacks ``ensurepip`` without the package python3-venv."""
    code = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    answer = subprocess.run([interpreter, "-c", code], capture_output=True, text=True, check=False)
    return answer.returncode == 0 and answer.stdout.strip() == version


def oldest_environment() -> Environment:
    """The oldest pair, in the checkout's ``.venv``."""
    for version in PYTHONS:
        if path := find_interpreter(version):
            return Environment(ROOT / ".venv", path, OLDEST_DJANGO)
    raise SystemExit("No Python 3.11 or newer that can make virtual environments; see `make system-deps`.")


def newest_environment() -> Environment | None:
    """The newest pair, where a Python is found that is new enough for the newest Django."""
    for version in reversed(PYTHONS[NEWEST_DJANGO_NEEDS:]):
        if path := find_interpreter(version):
            return Environment(ROOT / f".venv-py{version.replace('.', '')}", path, NEWEST_DJANGO)
    return None


@dataclass(frozen=True)
class Run:
    """The suite, or a part of it, on one pair and one database."""

    environment: Environment
    database: str
    arguments: Sequence[str]

    def __call__(self, terminal: threading.Lock, *, is_live: bool) -> tuple[str, bool, str]:
        """Run pytest; answers what ran, whether it passed, and pytest's closing line.

        Args:
            terminal: Who holds it may print.
            is_live: Whether to print line by line; otherwise all at once, at the end.
        """
        path = os.pathsep.join(
            [str(self.environment.directory / "bin"), os.environ["PATH"]]
        )  # its gunicorn, its uvicorn
        env = {**os.environ, "PATH": path, "TEST_DATABASE": self.database}
        command: list[str | Path] = [self.environment.python, "-m", "pytest", "--color=no", *self.arguments]
        title = f"{self.environment.describe()}, {self.database}"
        header = f"\n##### {title}: pytest {' '.join(self.arguments)}\n"
        closing, held = "no closing line", [header]
        with ExitStack() as stack:
            if is_live:
                stack.enter_context(terminal)
                print(header, end="", flush=True)
            process = stack.enter_context(
                subprocess.Popen(
                    command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
                )
            )
            assert process.stdout is not None
            for line in process.stdout:
                if is_live:
                    print(line, end="", flush=True)
                else:
                    held.append(line)
                if line.startswith("=") and line.strip("= \n"):
                    closing = line.strip("= \n")
        if not is_live:
            with terminal:
                print("".join(held), end="", flush=True)
        return title, process.returncode == 0, closing


def test(arguments: Sequence[str]) -> bool:
    """Run the suite on every pair, then what touches the database once more on PostgreSQL and on MariaDB.

    The oldest pair's run waits for servers and browsers most of the time, so the whole suite runs on all others beside
    it; what they print comes when the oldest pair has ended.
    """
    everywhere = "--everywhere" in arguments
    arguments = [argument for argument in arguments if argument != "--everywhere"]
    quick = [] if everywhere or arguments else ["-m", "not e2e"]
    oldest, newest = oldest_environment(), newest_environment()
    first = Run(oldest, "sqlite", arguments)
    others: list[Run] = []
    if newest:
        others.append(Run(newest, "sqlite", [*quick, *arguments]))
    if not arguments:
        # One pair each: what differs between databases does not differ between versions of Python. What storages do to
        # their buckets does not differ between databases.
        journal = ["-m", "not e2e", "tests/async_uploads", "--ignore-glob=*/test_storage_*"]
        others += [Run(newest or oldest, "postgres", journal), Run(oldest, "mariadb", journal)]
    for environment in filter(None, (oldest, newest)):
        environment.install()
    terminal = threading.Lock()
    if arguments:
        results = [run(terminal, is_live=True) for run in (first, *others)]
    else:
        with ThreadPoolExecutor(1) as beside:
            later = beside.submit(lambda: [run(terminal, is_live=False) for run in others])
            results = [first(terminal, is_live=True), *later.result()]
    print("\n##### All pairs")
    for title, passed, closing in results:
        print(f"{title}: {'' if passed else 'FAILED: '}{closing}")
    return all(passed for _, passed, _ in results)


def main(arguments: Sequence[str]) -> None:
    """Read the command line."""
    match arguments:
        case ["install", *group]:
            oldest_environment().install(*group)
        case ["test", *rest]:
            raise SystemExit(0 if test(rest) else 1)
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
