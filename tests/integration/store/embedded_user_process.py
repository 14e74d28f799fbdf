"""A second user of an embedded MongoDB, run as a process of its own by the tests: ``DATA_DIR [shared]``.

Prints one JSON line when the server is up, then waits for a line on standard input, SIGINT or SIGTERM, stores one more
document, closes and prints another line.
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from src.models.writes import Collection, Insert, WriteBatch
from src.store.embedded import open_embedded
from src.store.mongo import MongoStore


async def main(data_dir: Path, *, shared: bool) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    loop.add_reader(sys.stdin.fileno(), stop.set)
    async with open_embedded(data_dir, shared=shared, cache_gib=0.25) as server:
        store = MongoStore(server.uri, "life")
        await store.write(_note("start"))
        _say(uri=server.uri, mongod=server.pid, was_running=server.was_running)
        await stop.wait()
        await store.write(_note("stop"))  # what a collector does with its last batch after Ctrl-C
        await store.close()
    _say(closed=True)


def _note(what: str) -> WriteBatch:
    return WriteBatch(1, [[Insert(Collection.TRADES, {"_id": f"{what}:{os.getpid()}"})]])


def _say(**facts: object) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), shared="shared" in sys.argv[2:]))
