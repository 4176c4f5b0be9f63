"""The PostgreSQL server that tests may ask for."""

from __future__ import annotations

import psycopg

from tests.servers.postgres import PostgresServer


def test_the_server_answers(postgres: PostgresServer) -> None:
    with psycopg.connect(f"host=127.0.0.1 port={postgres.port} user=postgres dbname=postgres") as connection:
        row = connection.execute("SELECT 1").fetchone()
    assert row == (1,)
