"""Uses a store with the unmodified clickhouse-connect. Argument: its URL."""

import sys
import urllib.parse

import clickhouse_connect
from clickhouse_connect.driver.exceptions import DatabaseError

url = urllib.parse.urlparse(sys.argv[1])

for compress in (True, False, "lz4", "zstd", "gzip"):
    client = clickhouse_connect.get_client(host=url.hostname, port=url.port, compress=compress)
    assert client.ping()
    client.command("CREATE DATABASE IF NOT EXISTS flow")
    client.command(
        "CREATE OR REPLACE TABLE flow.t (id UInt64, host String, at DateTime64(9, 'UTC'))"
        " ENGINE = MergeTree ORDER BY id"
    )
    rows = [[n, f"host;'{n % 7}", 1_700_000_000_000_000_000 + n] for n in range(20_000)]
    summary = client.insert("t", rows, column_names=["id", "host", "at"], database="flow")
    assert summary.written_rows == 20_000, summary.summary
    result = client.query(
        "SELECT id, host FROM flow.t WHERE host = {host:String} AND id < {limit:UInt32} ORDER BY id",
        parameters={"host": "host;'3", "limit": 100},
    )
    assert result.result_rows == [(r[0], r[1]) for r in rows[:100] if r[1] == "host;'3"], result.result_rows
    assert client.command("SELECT count() FROM flow.t") == 20_000
    with client.query_row_block_stream("SELECT id FROM flow.t ORDER BY id") as blocks:
        assert [row[0] for block in blocks for row in block] == list(range(20_000))
    empty = client.query("SELECT id, host FROM flow.t LIMIT 0")
    assert empty.column_names == ("id", "host"), empty.column_names
    client.raw_insert("flow.t", ["id", "host", "at"], "1\tx\t2023-11-14 22:13:20\n", fmt="TabSeparated")
    assert client.raw_query("SELECT 1 AS one", fmt="JSONEachRow").strip() == b'{"one":1}'

    # A client has a session of its own.
    client.command("CREATE TEMPORARY TABLE mine (a Int8)")
    client.command("SET max_threads = 3")
    assert client.command("SELECT getSetting('max_threads') FROM (SELECT count() FROM mine)") == 3

    for sql, code in (("SELECT * FROM flow.missing", 60), ("SELEC 1", 62)):
        try:
            client.query(sql)
        except DatabaseError as error:
            assert f"code: {code}" in str(error), error
        else:
            raise AssertionError(f"no error for {sql}")
    try:
        client.query("SELECT number + throwIf(number = 3000000) FROM numbers(4000000)")
    except Exception as error:
        assert "395" in str(error) or "throwIf" in str(error), error
    else:
        raise AssertionError("a cut result passed for a whole one")
    client.close()
print("ok")
