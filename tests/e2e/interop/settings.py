"""The example's settings, plus pages with foreign scripts and answers for pages of another origin."""

import os
from pathlib import Path

from demo.settings import *  # noqa: F403
from demo.settings import MIDDLEWARE, TEMPLATES

ROOT_URLCONF = "tests.e2e.interop.urls"
STATICFILES_DIRS = [os.environ["INTEROP_STATIC"]]
TEMPLATES = [{**TEMPLATES[0], "DIRS": [Path(__file__).parent / "templates"]}]
MIDDLEWARE = ["tests.e2e.interop.cors.allow_other_origins", *MIDDLEWARE]
