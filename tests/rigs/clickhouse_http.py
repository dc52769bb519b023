"""Owns ClickHouse's HTTP interface over chDB: what clickhouse-connect says to a server, answered by the embedded engine.

Owns no SQL, and of the interface only what our clients use: sessions, users and external data are
not in it. It is a program of its own, since only one process may open a chDB directory; it ends
when its standard input closes, and so with the tests that started it.
"""

import argparse
import asyncio
import dataclasses
import gzip
import json
import re
import sys
import tempfile
import uuid
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import chdb
import lz4.frame
from aiohttp import web
from backports import zstd

MAX_BODY_BYTES = 1 << 30
MAX_URL_BYTES = 1 << 20  # ClickHouse's own; aiohttp's is 8 KiB, and parameters travel in the URL
MAX_VALUE_BYTES = 128 << 10  # ClickHouse's http_max_field_value_size, of a field and in the URL
# What HTTP itself is told; every other name in the URL is a setting or a parameter of the query.
TRANSPORT = frozenset(
    [
        "buffer_size",
        "client_protocol_version",
        "compress",
        "database",
        "decompress",
        "default_format",
        "enable_http_compression",
        "http_headers_progress_interval_ms",
        "password",
        "query",
        "query_id",
        "quota_key",
        "role",
        "send_progress_in_http_headers",
        "session_check",
        "session_id",
        "session_timeout",
        "user",
        "wait_end_of_query",
    ]
)
# Exceptions that ClickHouse answers with 400 and 404; 500 with all others.
BAD_REQUEST = frozenset({6, 8, 25, 26, 27, 36, 38, 41, 43, 44, 53, 62, 69, 72, 321, 376})
NOT_FOUND = frozenset({46, 47, 50, 56, 60, 73, 81, 115})
KEEPER_EXCEPTION = "Code: 999. DB::Exception: a fault for a test: not stored. (KEEPER_EXCEPTION)"
UNKNOWN_STATUS = "Code: 319. DB::Exception: a fault for a test: stored. (UNKNOWN_STATUS_OF_INSERT)"
INSERT = re.compile(rb"\s*INSERT\b", re.IGNORECASE)
WITH_DATA = re.compile(rb"(\s*INSERT\s[^\n]*?)\s(FORMAT\s+(?!VALUES)\w+)[ ;]*\n", re.IGNORECASE)
READS = re.compile(rb"[\s(]*(SELECT|WITH|SHOW|DESC|DESCRIBE|EXISTS|EXPLAIN)\b", re.IGNORECASE)
FORMAT = re.compile(rb"\bFORMAT\s+(\w+)[\s;]*$", re.IGNORECASE)
SETTING_NAME = re.compile(r"\w+")


@dataclass
class Faults:
    """What happens to the next inserts: so many fail unstored, then so many fail though stored."""

    before: int = 0
    after: int = 0
    delay_seconds: float = 0.0


connect: Callable[[str], Any] = chdb.connect  # which has no types
FAULTS = web.AppKey("faults", Faults)
DIRECTORY = web.AppKey("directory", str)


def run(directory: str, sql: bytes, url: Mapping[str, str]) -> Any:
    """Run one query on a connection of its own, so that its settings and database are its own too."""
    connection = connect(directory)
    try:
        if url.get("database"):
            connection.query("USE `{}`".format(url["database"].replace("`", "\\`")))
        for name, value in url.items():
            if name in TRANSPORT or name.startswith("param_"):
                continue
            if not SETTING_NAME.fullmatch(name):
                raise RuntimeError(f"Code: 115. DB::Exception: no setting {name!r}")
            quoted = value.replace("\\", "\\\\").replace("'", "\\'")
            connection.query(f"SET {name} = '{quoted}'")
        parameters = {k.removeprefix("param_"): v for k, v in url.items() if k.startswith("param_")}
        return connection.query(sql, url.get("default_format", "TabSeparated"), params=parameters)
    finally:
        connection.close()


def run_insert(directory: str, sql: bytes, url: Mapping[str, str]) -> Any:
    """Data goes by a file: behind its query, chDB takes some bytes for its end."""
    with_data = WITH_DATA.match(sql)
    if with_data is None or with_data.end() == len(sql):
        return run(directory, sql, url)
    insert, form = with_data.groups()
    with tempfile.NamedTemporaryFile() as file:
        file.write(sql[with_data.end() :])
        file.flush()
        from_file = f" FROM INFILE '{file.name}' COMPRESSION 'none' ".encode()
        return run(directory, insert + from_file + form, url)


async def ping(_: web.Request) -> web.Response:
    return web.Response(text="Ok.\n")


async def set_faults(request: web.Request) -> web.Response:
    """Not ClickHouse's: a test says what goes wrong next."""
    faults = request.app[FAULTS]
    for name, value in (await request.json()).items():
        setattr(faults, name, value)
    return web.json_response(dataclasses.asdict(faults))


async def query(request: web.Request) -> web.Response:
    try:
        sql, url = await read(request)
        if INSERT.match(sql):
            result = await insert(request.app, sql, url)
        else:
            result = await asyncio.to_thread(run, request.app[DIRECTORY], sql, url)
    except (RuntimeError, chdb.ChdbError) as err:
        return failure(str(err))
    return answer(result, sql, url, request.headers.get("Accept-Encoding", ""))


async def read(request: web.Request) -> tuple[bytes, dict[str, str]]:
    """The query with its data behind it, and the names and values of the URL or the form."""
    url = dict(request.query)
    if request.content_type == "multipart/form-data":
        form = await request.post()
        body = b""
        url |= {name: value for name, value in form.items() if isinstance(value, str)}
    else:
        body = decompress(await request.read(), request.headers.get("Content-Encoding", ""))
    for name, value in url.items():
        if len(quote(value)) > MAX_VALUE_BYTES:
            raise RuntimeError(f"Code: 1000. DB::Exception: Field value too long: {name}")
    return b"\n".join(part for part in (url.get("query", "").encode(), body) if part), url


async def insert(app: web.Application, sql: bytes, url: Mapping[str, str]) -> Any:
    faults = app[FAULTS]
    await asyncio.sleep(faults.delay_seconds)
    if faults.before > 0:
        faults.before -= 1
        raise RuntimeError(KEEPER_EXCEPTION)
    result = await asyncio.to_thread(run_insert, app[DIRECTORY], sql, url)
    if faults.after > 0:
        faults.after -= 1
        raise RuntimeError(UNKNOWN_STATUS)
    return result


def failure(message: str) -> web.Response:
    found = re.search(r"Code: (\d+)", message)
    code = int(found[1]) if found else 1002
    status = 400 if code in BAD_REQUEST else 404 if code in NOT_FOUND else 500
    headers = {"X-ClickHouse-Exception-Code": str(code)}
    return web.Response(status=status, headers=headers, text=f"{message}\n")


def answer(result: Any, sql: bytes, url: Mapping[str, str], accepted: str) -> web.Response:
    summary = {
        "read_rows": str(result.storage_rows_read()),
        "written_rows": str(result.rows_written()),
        "result_rows": str(result.rows_read()),
        "elapsed_ns": str(int(result.elapsed() * 1e9)),
    }
    headers = {
        "X-ClickHouse-Query-Id": url.get("query_id", str(uuid.uuid4())),
        "X-ClickHouse-Summary": json.dumps(summary),
        "X-ClickHouse-Timezone": "UTC",
    }
    body: bytes = result.bytes()
    if READS.match(sql):
        named = FORMAT.search(sql)
        default = url.get("default_format", "TabSeparated")
        headers["X-ClickHouse-Format"] = named[1].decode() if named else default
    if url.get("enable_http_compression") == "1":
        encoding = next((each for each in COMPRESSORS if each in accepted), None)
        if encoding:
            headers["Content-Encoding"] = encoding
            body = COMPRESSORS[encoding](body)
    return web.Response(body=body, headers=headers)


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "lz4": lz4.frame.compress,
    "zstd": zstd.compress,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
}


def decompress(body: bytes, encoding: str) -> bytes:
    match encoding:
        case "" | "identity":
            return body
        case "lz4":
            return b"".join(lz4_frames(body))
        case "zstd":
            return zstd.decompress(body)
        case "gzip":
            return gzip.decompress(body)
        case "deflate":
            return zlib.decompress(body)
    raise RuntimeError(f"Code: 48. DB::Exception: no Content-Encoding {encoding!r} here")


def lz4_frames(body: bytes) -> list[bytes]:
    """clickhouse-connect makes a frame of each block."""
    frames = []
    while body:
        frame = lz4.frame.LZ4FrameDecompressor()
        frames.append(frame.decompress(body))
        body = frame.unused_data or b""
    return frames


async def serve(directory: str, port: int) -> None:
    """Serve until standard input closes; the port goes to standard output as the first line."""
    engine = connect(directory)  # stays open: the engine closes with its last connection
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app[DIRECTORY] = directory
    app[FAULTS] = Faults()
    app.router.add_get("/ping", ping)
    app.router.add_post("/rig/faults", set_faults)
    app.router.add_route("*", "/", query)
    runner = web.AppRunner(app, auto_decompress=False, max_line_size=MAX_URL_BYTES, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()
    engine.close()


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("directory")
    arguments.add_argument("--port", type=int, default=0)
    given = arguments.parse_args()
    asyncio.run(serve(given.directory, given.port))
