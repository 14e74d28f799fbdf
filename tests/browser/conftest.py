"""The browser of these tests: without Chromium they are skipped; ``REQUIRE_BROWSER=1`` lets them fail instead."""

import os

import pytest

from tests.support.browser import find_chromium


@pytest.fixture(scope="session")
def binary():
    found = find_chromium()
    if found is None and os.environ.get("REQUIRE_BROWSER"):
        pytest.fail("REQUIRE_BROWSER is set, but there is no Chromium: apt-get install chromium")
    if found is None:
        pytest.skip("no Chromium here (apt-get install chromium)")
    return found
