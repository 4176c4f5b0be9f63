"""The peer tuspyserver, with its defaults, below FastAPI."""

import os

from fastapi import FastAPI
from tuspyserver import create_tus_router

application = FastAPI()
application.include_router(
    create_tus_router(prefix="files", files_dir=os.path.join(os.environ["BENCHMARK_DIRECTORY"], "files"))
)
