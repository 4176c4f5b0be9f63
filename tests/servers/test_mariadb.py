"""The MariaDB server that tests may ask for."""

from __future__ import annotations

import pymysql

from tests.servers.mariadb import MariaDBServer


def test_the_server_answers_and_compares_without_regard_to_case_by_default(mariadb: MariaDBServer) -> None:
    with pymysql.connect(host="127.0.0.1", port=mariadb.port, user="root") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 'a' = 'A'")
        assert cursor.fetchone() == (1,)
