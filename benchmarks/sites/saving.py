"""Time ``save()`` of a model with a large and with a small finished upload, alternately; prints JSON.

    python -m benchmarks.sites.saving BYTES REPETITIONS

The large file is made of a small one by ``truncate``: its blocks are not there, but its name, size and rename are; the
file system's work for a rename does not depend on the blocks. The journal's row has the large length.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import django

SMALL = 1024


def main() -> None:
    """Measure."""
    django.setup()
    large, repetitions = int(sys.argv[1]), int(sys.argv[2])
    seconds: dict[int, list[float]] = {SMALL: [], large: []}
    for number in range(repetitions + 1):
        for size in seconds:
            elapsed = save(size)
            if number:  # the first round pays for imports
                seconds[size].append(elapsed)
    print(
        json.dumps(
            {
                "small_ms": round(statistics.median(seconds[SMALL]) * 1000, 3),
                "large_ms": round(statistics.median(seconds[large]) * 1000, 3),
                "repetitions": repetitions,
                "size": large,
            }
        )
    )


def save(size: int) -> float:
    """Upload, save a model with the upload, check that it is promoted, remove it; return the seconds of ``save()``."""
    from async_uploads.journal import AsyncTempFile
    from async_uploads.testing import upload_file
    from benchmarks.sites.archive.models import Item

    key = upload_file(Item.file, b"\0" * SMALL, name="measured.bin")
    storage = Item._meta.get_field("file").storage
    with Path(storage.path_of(key)).open("r+b") as file:
        file.truncate(size)
    AsyncTempFile.objects.filter(key=key).update(length=size)
    item = Item(file=key)
    started = time.perf_counter()
    item.save()
    elapsed = time.perf_counter() - started
    item.refresh_from_db()
    row = AsyncTempFile.objects.get(key=key)
    if not row.is_promoted or item.file.size != size or Path(storage.path_of(key)).exists():
        raise SystemExit(f"The upload was not promoted: {item.file.name}, {item.file.size} bytes.")
    Path(item.file.path).unlink()
    item.delete()
    return elapsed


if __name__ == "__main__":
    main()
