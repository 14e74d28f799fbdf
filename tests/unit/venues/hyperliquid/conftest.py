"""Fixtures shared by the tests of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.scripted_http import ScriptedHttp, serve_script


@pytest.fixture
async def scripted_http() -> AsyncIterator[ScriptedHttp]:
    async with serve_script() as scripted:
        yield scripted
