"""``manage.py demo`` as a person runs it: it prepares itself, says where to look, and ends when told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.site import ROOT, build_environment, wait_for
from tests.servers import find_free_port

pytestmark = pytest.mark.e2e


def is_up(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.mark.parametrize("server", ["wsgi", "asgi"])
def test_the_demo_prepares_itself_serves_and_ends_at_ctrl_c(tmp_path: Path, server: str) -> None:
    port = find_free_port()
    url = f"http://127.0.0.1:{port}/"
    command = [sys.executable, str(ROOT / "example" / "manage.py"), "demo", "--port", str(port), "--server", server]
    environment = {**os.environ, **build_environment(tmp_path / "var"), "PYTHONUNBUFFERED": "1"}
    output = tmp_path / "output"
    with output.open("wb") as written:
        process = subprocess.Popen(command, env=environment, stdout=written, stderr=subprocess.STDOUT)
    try:
        wait_for(lambda: process.poll() is not None or is_up(url), 120, 0.1)
        assert is_up(f"{url}talks/new/"), output.read_text()
        assert is_up(f"{url}lab/")
        assert is_up(f"{url}static/async_uploads/async-uploads.js")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    printed = output.read_text()
    assert url in printed
    assert "Log in as     demo, password demo" in printed
    assert "Traceback" not in printed
    assert "Warning" not in printed
