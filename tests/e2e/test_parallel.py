"""tus-js-client sends three parts of a file at once, to a field of the example on real servers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.site import compute_sha256, make_sample, prepare_database, served
from tests.servers import Kind
from tests.servers.node import upload_by_node
from tests.skips import need

need("node")

pytestmark = pytest.mark.e2e

FIELD = "talks.Specimen.file"


@pytest.mark.parametrize("kind", ["gthread", "uvicorn"])
def test_a_file_in_three_parts_is_one_upload_of_its_field(tmp_path: Path, kind: Kind) -> None:
    sample = make_sample(tmp_path / "film.bin", 20_000_003)
    with served(kind, tmp_path / "site", database=prepare_database(tmp_path)) as site:
        event = upload_by_node(
            {
                "endpoint": f"{site.url}/uploads/tus/",
                "file": str(sample.path),
                "inMemory": True,
                "chunkSize": 3_000_000,
                "options": {
                    "parallelUploads": 3,
                    "uploadSize": None,
                    "metadata": {"field_id": FIELD, "filename": "film.bin"},
                    "metadataForPartialUploads": {"field_id": FIELD},
                },
            }
        )
        upload_id = event["done"].rpartition("/")[2]
        columns = "key, length, finished_at is not null, partials"
        ((key, length, is_finished, partials),) = site.rows(
            f"select {columns} from async_uploads_asynctempfile where not is_partial"
        )
        assert site.rows("select key from async_uploads_asynctempfile where upload_id = ?", upload_id) == [(key,)]
        assert (length, is_finished, len(json.loads(partials))) == (sample.size, 1, 3)
        assert compute_sha256(site.media / key) == sample.sha256
        assert len(site.uploads()) == 4
