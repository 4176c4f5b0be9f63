"""Print how many statements each request of an upload costs the database, and which.

    python benchmarks/queries.py

Counts are exact and the same on every machine; ``tests/async_uploads/test_costs.py`` pins them.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")


def main() -> None:
    """Measure on a database of the run's own, which is removed afterwards."""
    import django

    django.setup()
    from django.conf import settings
    from django.test.utils import get_runner, setup_test_environment, teardown_test_environment

    from tests.async_uploads.costs import measure

    settings.RUN_DIRECTORY.mkdir(parents=True, exist_ok=True)
    setup_test_environment()
    runner = get_runner(settings)(verbosity=0)
    databases = runner.setup_databases()
    try:
        for operation, statements in measure().items():
            print(f"{operation}: {len(statements)}")
            for sql in statements:
                print(f"    {sql[:110]}")
    finally:
        runner.teardown_databases(databases)
        teardown_test_environment()
        shutil.rmtree(settings.RUN_DIRECTORY, ignore_errors=True)


if __name__ == "__main__":
    main()
