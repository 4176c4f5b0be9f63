"""Who is measured: how each server is installed and started, and the addresses at which it takes uploads.

Ours and a server of our own in C, the ceiling, stand beside the peers. Every peer runs with its defaults, but for
limits that would refuse the load.
"""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from benchmarks.installing import Tools
from benchmarks.processes import Server, ServerFailed, build_environment

HERE = Path(__file__).resolve().parent

Durability = Literal["none", "data", "strict"]
Kind = Literal["ceiling", "peer", "ours"]
#: Leads contestants that relay to the sink; set when that has started.
S3_ENDPOINT = "BENCHMARK_S3_ENDPOINT"
#: The connection string for those that relay to it as to Azure; likewise.
AZURE_CONNECTION = "BENCHMARK_AZURE"
#: The contestant that others relay to.
SINK = "s3 sink"
AZURE_KEY = base64.b64encode(b"for a benchmark only".ljust(64)).decode()
SITE = "benchmarks.sites.settings"


@dataclass(frozen=True)
class Endpoint:
    """An address of a contestant.

    Attributes:
        name: What the tables call it.
        path: Where uploads are created; with ``method`` "put", below which they are put.
        files: Where stored files end up, below the server's directory; ``None``: nowhere.
        durability: What is synced when an upload is called finished. Like is compared with like.
        has_login: A session cookie is sent, and a row is kept in a database.
        only_large: It takes part where large files are transferred, and nowhere else.
        backend: What stores the bytes in the end: this machine's files, or object storage.
        fast: The paths (see ``tus_server.served``) by which large bodies must come here; any, where this is empty.
    """

    name: str
    path: str = "/files/"
    files: str | None = "files"
    durability: Durability = "none"
    method: Literal["upload", "put"] = "upload"
    has_login: bool = False
    fast: frozenset[str] = frozenset()
    only_large: bool = False
    backend: Literal["files", "s3", "azure"] = "files"


@dataclass(frozen=True)
class Contestant:
    """A server.

    Attributes:
        name: Its name, unique.
        part: What ``Tools`` installs for it.
        needs: The contestant that must run before it, where it relays to one.
        command: Its command line; ``{part}``, ``{port}``, ``{directory}`` and ``{s3}`` (the sink) are filled in.
        endpoints: Where it is measured.
        streams: It does not hold bodies in memory or spool them.
        can: What it can do besides one upload in one body: "chunks" (several PATCHes), "create" (creation with upload),
            "slow" (a thousand clients in one process), "tus" (HEAD and the rest).
        prepare: Writes what it needs into its directory before it starts; returns variables for its environment.
        templates: Files to write into its directory, with ``{port}``, ``{directory}`` and ``{user}`` filled in.
    """

    name: str
    kind: Kind
    part: str
    command: tuple[str, ...]
    endpoints: tuple[Endpoint, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    streams: bool = True
    can: frozenset[str] = frozenset({"chunks", "create", "slow", "tus"})
    prepare: Callable[[Tools, Path, Mapping[str, str]], Mapping[str, str]] | None = None
    templates: Mapping[str, str] = field(default_factory=dict)
    needs: str | None = None

    def build(self, tools: Tools, directory: Path) -> Server:
        """Install what is needed and return the server, not yet started.

        Raises:
            Unavailable: It cannot be built here.
        """
        part = tools.get(self.part)
        place = directory / self.name.replace(" ", "-")
        place.mkdir(parents=True)
        (place / "files").mkdir()
        environment = dict(self.environment)
        if self.needs is not None:
            # Nobody else: a site that relays has boto3 in its memory.
            environment |= {name: os.environ[name] for name in (S3_ENDPOINT, AZURE_CONNECTION) if name in os.environ}
        if self.prepare is not None:
            environment |= self.prepare(tools, place, environment)
        sink = os.environ.get(S3_ENDPOINT, "")
        command = tuple(word.replace("{part}", str(part)).replace("{s3}", sink) for word in self.command)
        return Server(self.name, command, place, environment, self.templates)


NGINX = """
user {user};
daemon off;
worker_processes 1;
pid {directory}/pid;
error_log {directory}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
  server {{
    listen 127.0.0.1:{port};
    root {directory};
    client_max_body_size 0;
    location /files/ {{ dav_methods PUT; create_full_put_path on; }}
  }}
}}
"""


def prepare_site(tools: Tools, directory: Path, environment: Mapping[str, str]) -> Mapping[str, str]:
    """Make the site's database and a user who is logged in; the cookie lies in ``cookie``."""
    settings = {"DJANGO_SETTINGS_MODULE": SITE}
    done = subprocess.run(
        [tools.get("ours"), "-m", "benchmarks.sites.prepare"],
        env=build_environment(directory, {**environment, **settings}),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise ServerFailed(f"The site's database could not be made:\n{done.stderr[-2000:]}")
    (directory / "cookie").write_text(done.stdout.strip())
    return settings


EVERYTHING = frozenset({"chunks", "create", "slow", "tus"})


def _ours(
    server: str,
    command: tuple[str, ...],
    fast: frozenset[str] = frozenset(),
    can: frozenset[str] = EVERYTHING,
) -> Contestant:
    """One of ours.

    Args:
        fast: By which paths its fast endpoints take large bodies; without any, all its endpoints are portable.
    """
    levels: tuple[Durability, ...] = ("none", "data", "strict")
    endpoints = [Endpoint(f"{server} {level}", f"/{level}/", f"files/{level}", level, fast=fast) for level in levels]
    if fast:
        endpoints.append(Endpoint(f"{server} portable", "/portable/", "files/portable", only_large=True))
    # The one with the database comes last, see ``on_postgres``.
    endpoints.append(Endpoint(f"{server} login", "/uploads/tus/", "media", has_login=True, fast=fast))
    return Contestant(server, "ours", "ours", command, tuple(endpoints), can=can, prepare=prepare_site)


def _relay(server: str, backend: Literal["s3", "azure"], command: tuple[str, ...]) -> Contestant:
    """One of ours that relays, in a process of its own, so that its memory is only that."""
    name = f"{server} {backend}"
    endpoint = Endpoint(name, f"/{backend}/", None, backend=backend)
    environment = {"DJANGO_SETTINGS_MODULE": SITE}
    return Contestant(name, "ours", "ours", command, (endpoint,), environment, needs=SINK)


def on_postgres(contestant: Contestant) -> Contestant:
    """Return one of ours with its site on PostgreSQL, which libpq's variables name."""
    name = f"{contestant.name} login postgres"
    site = replace(contestant.endpoints[-1], name=name)
    return replace(contestant, name=name, endpoints=(site,), environment={"BENCHMARK_DATABASE": "postgres"})


GUNICORN = (
    *("{part}", "-m", "gunicorn", "--worker-class", "gthread", "--threads", "16", "--bind", "127.0.0.1:{port}"),
    *("--worker-tmp-dir", "{directory}", "--no-control-socket", "--keep-alive", "60"),
)
UVICORN = (
    *("{part}", "-m", "uvicorn", "--host", "127.0.0.1", "--port", "{port}", "--no-access-log"),
    *("--log-level", "warning", "--timeout-keep-alive", "60"),
)
GRANIAN = (
    *("{part}", "-m", "granian", "--interface", "asginl", "--host", "127.0.0.1", "--port", "{port}"),
    *("--workers", "1", "--no-access-log", "--log-level", "warning"),
)

CONTESTANTS = (
    Contestant("c", "ceiling", "ceiling", ("{part}", "write", "{port}", "{directory}/files"), (Endpoint("c"),)),
    Contestant(
        "c sync",
        "ceiling",
        "ceiling",
        ("{part}", "sync", "{port}", "{directory}/files"),
        (Endpoint("c sync", durability="data"),),
    ),
    Contestant(
        "c discard",
        "ceiling",
        "ceiling",
        ("{part}", "discard", "{port}", "{directory}/files"),
        (Endpoint("c discard", files=None),),
    ),
    Contestant(
        "nginx",
        "peer",
        "nginx",
        ("{part}", "-p", "{directory}", "-c", "{directory}/nginx.conf"),
        (Endpoint("nginx", method="put"),),
        can=frozenset(),
        templates={"nginx.conf": NGINX},
    ),
    Contestant(
        "node",
        "peer",
        "node",
        ("node", str(HERE / "sites" / "node_server.mjs")),
        (Endpoint("node", "/files"),),
        prepare=lambda tools, directory, environment: {"PACKAGES": str(tools.get("node"))},
    ),
    Contestant(
        "tusd",
        "peer",
        "tusd",
        (
            *("{part}", "-host", "127.0.0.1", "-port", "{port}", "-base-path", "/files/"),
            *("-upload-dir", "{directory}/files", "-verbose=false"),
        ),
        (Endpoint("tusd"),),
    ),
    Contestant(
        "rustus",
        "peer",
        "rustus",
        (
            *("{part}", "--host", "127.0.0.1", "--port", "{port}", "--url", "/files", "--log-level", "WARN"),
            *("--data-dir", "{directory}/files", "--info-dir", "{directory}/info"),
            *("--max-body-size", str(16 * 2**30)),
        ),
        (Endpoint("rustus"),),
        streams=False,
    ),
    Contestant(
        "tuspyserver",
        "peer",
        "tuspyserver",
        (*UVICORN, "benchmarks.sites.tuspy:application"),
        (Endpoint("tuspyserver", "/files"),),
    ),
    Contestant(
        "django-tus",
        "peer",
        "django-tus",
        (*GUNICORN, "benchmarks.sites.djangotus:application"),
        (Endpoint("django-tus"),),
        streams=False,
        can=frozenset({"tus"}),
    ),
    # A thread per client: what a thousand slow ones do to it is measured, but takes its time.
    _ours(
        "gunicorn",
        (*GUNICORN, "benchmarks.sites.wsgi:application"),
        frozenset({"socket", "splice"}),
        EVERYTHING - {"slow"},
    ),
    _ours("uvicorn", (*UVICORN, "benchmarks.sites.asgi:application")),
    Contestant(
        "uvicorn handover",
        "ours",
        "ours",
        (*UVICORN, "benchmarks.sites.asgi:application"),
        (Endpoint("uvicorn handover", "/none/", "files/none", fast=frozenset({"handover"})),),
        environment={"BENCHMARK_HANDOVER": "on"},
        prepare=prepare_site,
    ),
    _ours("granian", (*GRANIAN, "benchmarks.sites.asgi:application")),
    # PUT straight into it, bodies show that it is not the bottleneck.
    Contestant(
        SINK,
        "ceiling",
        "sink",
        ("{part}", "serve", "{port}", "0"),
        (Endpoint(SINK, "/bucket/direct/", None, method="put", backend="s3"),),
    ),
    Contestant(
        "node s3",
        "peer",
        "node",
        ("node", str(HERE / "sites" / "node_s3.mjs")),
        (Endpoint("node s3", "/files", None, backend="s3"),),
        prepare=lambda tools, directory, environment: {"PACKAGES": str(tools.get("node"))},
        needs=SINK,
    ),
    Contestant(
        "tusd s3",
        "peer",
        "tusd",
        (
            *("{part}", "-host", "127.0.0.1", "-port", "{port}", "-base-path", "/files/", "-verbose=false"),
            *("-s3-bucket", "bucket", "-s3-endpoint", "{s3}"),
        ),
        (Endpoint("tusd s3", "/files/", None, backend="s3"),),
        environment={"AWS_ACCESS_KEY_ID": "measured", "AWS_SECRET_ACCESS_KEY": "measured", "AWS_REGION": "us-east-1"},
        needs=SINK,
    ),
    _relay("gunicorn", "s3", (*GUNICORN, "benchmarks.sites.wsgi:application")),
    _relay("uvicorn", "s3", (*UVICORN, "benchmarks.sites.asgi:application")),
    Contestant(
        "node azure",
        "peer",
        "node",
        ("node", str(HERE / "sites" / "node_azure.mjs")),
        (Endpoint("node azure", "/files", None, backend="azure"),),
        prepare=lambda tools, directory, environment: {"PACKAGES": str(tools.get("node"))},
        needs=SINK,
    ),
    _relay("gunicorn", "azure", (*GUNICORN, "benchmarks.sites.wsgi:application")),
    _relay("uvicorn", "azure", (*UVICORN, "benchmarks.sites.asgi:application")),
)


def choose(names: Collection[str] | None) -> list[Contestant]:
    """Return the contestants of these names, or all; what they need comes before them, although it was not named.

    What was not named takes part in no scenario.
    """
    by_name = {one.name: one for one in CONTESTANTS}
    chosen = [one for one in CONTESTANTS if names is None or one.name in names]
    needed = [by_name[one.needs] for one in chosen if one.needs is not None]
    silent = [replace(one, endpoints=()) for one in CONTESTANTS if one in needed and one not in chosen]
    return silent + sorted(chosen, key=lambda one: one.needs is not None)
