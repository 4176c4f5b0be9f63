"""``kill -9`` in the middle of an upload to S3: a real process, a real server, manifests in a file."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.servers.moto import MotoServer
from tests.servers.process import ROOT
from tests.tus_server.stores.s3_kit import client_of, content_of, new_bucket
from tests.tus_server.stores.s3_writer import open_store
from tus_server.errors import OffsetConflict
from tus_server.testing.stores import NOW, append, make_record

MIB = 1024 * 1024
LENGTH = 40 * MIB + 12_345


@pytest.mark.e2e
@pytest.mark.parametrize("seed", range(3))
def test_an_upload_survives_the_death_of_its_writers(moto: MotoServer, tmp_path: Path, seed: int) -> None:
    client = client_of(moto)
    bucket = new_bucket(client)
    chance = random.Random(seed)
    record, content = make_record(LENGTH), content_of(LENGTH, seed)
    (tmp_path / "record").write_bytes(pickle.dumps(record))
    offsets = [0]
    for _ in range(4):
        store = open_store(client, bucket, tmp_path / "manifests", record)
        count = min(chance.choice([300, 3 * MIB, 9 * MIB, 17 * MIB]), LENGTH - offsets[-1] - 1)
        arguments = [moto.url, bucket, tmp_path / "manifests", tmp_path / "record", str(seed), str(count)]
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.tus_server.stores.s3_writer", *map(str, arguments)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "written\n"
        child.kill()
        child.wait()
        child.stdout.close()
        told = store.get(record.id).offset
        assert offsets[-1] <= told <= offsets[-1] + count
        with suppress(OffsetConflict):  # parts of the dead writer were found
            store.open_sink(store.get(record.id), told).settle()
        assert told <= store.get(record.id).offset <= offsets[-1] + count
        offsets.append(store.get(record.id).offset)
        if chance.random() < 0.5:  # a living one leaves a tail
            end = min(offsets[-1] + 3 * MIB, LENGTH - 1)
            offsets.append(append(store, store.get(record.id), content[offsets[-1] : end]).offset)
    assert offsets == sorted(offsets)
    store = open_store(client, bucket, tmp_path / "manifests", record)
    upload = append(store, store.get(record.id), content[offsets[-1] :])
    store.finish(upload, NOW)
    assert client.get_object(Bucket=bucket, Key=record.object_name)["Body"].read() == content
    assert [entry["Key"] for entry in client.list_objects_v2(Bucket=bucket)["Contents"]] == [record.object_name]
