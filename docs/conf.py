"""Sphinx: Markdown pages on four shelves."""

import tomllib
from pathlib import Path

project = "django-async-uploads"
author = copyright = "django-async-uploads contributors"  # noqa: A001  # the name that Sphinx reads
release = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]["version"]

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
suppress_warnings = ["toc.empty_glob", "toc.glob"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
html_theme = "alabaster"
html_theme_options = {"description": "Resumable file uploads for Django", "page_width": "60rem"}
