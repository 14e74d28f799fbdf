"""Commands to the embedded mongod: wait until it takes writes, whatever state its data is in; shut it down."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from pymongo.errors import OperationFailure, PyMongoError

from src.models.errors import EmbeddedServerError
from src.store.embedded_files import RunningServer
from src.store.mongo import Client, close_client, open_client
from src.store.mongod import LOOPBACK, MongodProcess

_COMMAND_TIMEOUT_S = 2.0
_POLL_INTERVAL_S = 0.02
_NOT_YET_INITIALIZED = 94
_SHUTDOWN_GRACE_S = 5


def local_uri(port: int, replica_set: str) -> str:
    """The connection string of the embedded server; it also works in mongosh and Compass.

    It names the replica set: should the server end and another program's get its port, the driver refuses that one;
    and it is direct, so that the driver goes on looking at this port until its own server is back.
    """
    return f"mongodb://{LOOPBACK}:{port}/?directConnection=true&replicaSet={replica_set}"


def _direct_uri(port: int) -> str:
    return f"mongodb://{LOOPBACK}:{port}/?directConnection=true"


async def wait_until_writable(running: RunningServer, *, timeout_s: float) -> str:
    """Make the server the primary of its own replica set and wait until it is; returns its version.

    New data is initiated; data that was used on another port is reconfigured by force (the only member is this one).

    Raises:
        EmbeddedServerError: the process ended, or it was not ready in time.
    """
    process, port = running.process, running.port
    client = open_client(_direct_uri(port), timeout_s=_COMMAND_TIMEOUT_S)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    last = "it did not answer"
    try:
        while process.is_running():
            try:
                if not await _works_on(client, running.directory):
                    last = f"another MongoDB answers on port {port}"
                elif await _is_writable(client, port):
                    return str((await client.admin.command("buildInfo"))["version"])
                else:
                    await _settle_membership(client, running)
            except PyMongoError as error:
                last = str(error)
            if loop.time() > deadline:
                raise EmbeddedServerError(f"embedded MongoDB was not ready after {timeout_s:g} s: {last[:300]}")
            await asyncio.sleep(_POLL_INTERVAL_S)
    finally:
        await close_client(client)
    raise ProcessEndedError(process.returncode)


class ProcessEndedError(EmbeddedServerError):
    """The mongod ended while it was waited for; ``returncode`` as `MongodProcess.returncode`."""

    def __init__(self, returncode: int | None) -> None:
        super().__init__(f"embedded MongoDB ended with {returncode}")
        self.returncode = returncode


async def request_shutdown(running: RunningServer) -> None:
    """Ask the server to stop in order; an answer is not to be expected, and silence is not an error."""
    client = open_client(_direct_uri(running.port), timeout_s=_COMMAND_TIMEOUT_S)
    try:
        if await _works_on(client, running.directory):
            await client.admin.command("shutdown", force=True, timeoutSecs=_SHUTDOWN_GRACE_S)
    except PyMongoError:
        return
    finally:
        await close_client(client)


async def wait_for_end(process: MongodProcess, *, timeout_s: float) -> bool:
    """Wait for a process to end; False when it still runs after ``timeout_s``."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while process.is_running():
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(_POLL_INTERVAL_S)
    return True


async def _is_writable(client: Client, port: int) -> bool:
    hello = await client.admin.command("hello")
    return bool(hello.get("isWritablePrimary")) and hello.get("me") == _member(port)


async def _works_on(client: Client, directory: str) -> bool:
    """Whether this server is ours. Two programs may have chosen the same port; only one of them got it.

    Asked before anything else is: nothing must ever be changed in the server of somebody else.
    """
    options = await client.admin.command("getCmdLineOpts")
    path = options.get("parsed", {}).get("storage", {}).get("dbPath")
    return bool(path == directory)


async def _settle_membership(client: Client, running: RunningServer) -> None:
    port = running.port
    config = await _stored_config(client)
    if config is None:
        members = [{"_id": 0, "host": _member(port)}]
        await client.admin.command("replSetInitiate", {"_id": running.replica_set, "members": members})
    elif [member["host"] for member in config["members"]] != [_member(port)]:
        member = {**config["members"][0], "host": _member(port)}
        await client.admin.command("replSetReconfig", {**config, "members": [member]}, force=True)


async def _stored_config(client: Client) -> Mapping[str, Any] | None:
    try:
        answer = await client.admin.command("replSetGetConfig")
    except OperationFailure as error:
        if error.code == _NOT_YET_INITIALIZED:
            return None
        raise
    config: Mapping[str, Any] = answer["config"]
    return config


def _member(port: int) -> str:
    return f"{LOOPBACK}:{port}"
