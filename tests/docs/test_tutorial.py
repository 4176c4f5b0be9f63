"""The tutorial, followed to the letter: its code blocks make a project that works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TUTORIAL = ROOT / "docs" / "tutorial" / "first-upload.md"

#: A block that belongs into a file begins with a comment that names it.
BLOCK = re.compile(r"^```(?:python|html)\n(?:# |<!-- )(\S+\.(?:py|html))(?: -->)?\n(.*?)^```", re.DOTALL | re.MULTILINE)

SAVE_A_PAPER = """
from django.contrib.auth.models import User
from django.test import Client
from async_uploads.testing import upload_file
from papers.models import Paper

client = Client(headers={"host": "localhost"})
client.force_login(User.objects.create_superuser("editor"))
page = client.get("/papers/add/")
assert page.status_code == 200 and b"<async-upload" in page.content, page.content

key = upload_file(Paper.file.field, b"words", name="keys.pdf")
saved = client.post("/papers/add/", {"title": "On keys", "file": key})
assert saved.status_code == 302, saved.content
print(Paper.objects.get().file.name)
"""


def python(directory: Path, *arguments: str) -> str:
    """Run our own interpreter in the project, with no settings but the project's; answers what it printed."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "TEST_", "PG"))}
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=directory,
        env={**inherited, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def test_the_tutorial_leads_to_a_stored_file(tmp_path: Path) -> None:
    python(tmp_path, "-m", "django", "startproject", "mysite")
    project = tmp_path / "mysite"
    python(project, "manage.py", "startapp", "papers")
    written = {"mysite/settings.py"}  # Django's own, which the tutorial adds to
    for name, code in BLOCK.findall(TUTORIAL.read_text()):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        with (project / name).open("a" if name in written else "w") as file:
            file.write(code)
        written.add(name)
    assert "papers/models.py" in written

    python(project, "manage.py", "makemigrations", "papers")
    python(project, "manage.py", "migrate", "--verbosity=0")
    python(project, "manage.py", "check", "--fail-level=WARNING")

    assert python(project, "manage.py", "shell", "--verbosity=0", "-c", SAVE_A_PAPER) == "papers/keys.pdf"
    assert (project / "media" / "papers" / "keys.pdf").read_bytes() == b"words"
