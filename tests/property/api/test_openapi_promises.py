"""Every route against its own description, by schemathesis: what is promised of statuses, types and shapes is kept."""

import schemathesis
from hypothesis import settings
from pydantic import SecretStr
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from src.api.app import create_app
from src.models.clock import ManualClock
from src.models.metrics import Metrics
from src.models.status import Check, Health
from src.store.memory import MemoryStore

TOKEN = "only-for-this-test-1234"


class Status:
    def health(self):
        return Health("ok", ready=True, checks=(Check("program", ok=True, text="running"),), facts={})

    def stats(self):
        return {}


class Traders:
    async def add(self, addresses, *, source, tags):
        return len(addresses)

    async def remove(self, addresses):
        return 0

    def view(self, address):
        return None


class Books:
    def publish_book(self, book):
        return 0


app = create_app(
    status=Status(),
    store=MemoryStore(),
    metrics=Metrics(),
    traders=Traders(),
    books=Books(),
    token=SecretStr(TOKEN),  # with one, any Host may ask: the test client has its own
    allowed_origins=(),
    clock=ManualClock(),
    version="1",
)
schema = schemathesis.openapi.from_asgi("/openapi.json", app)


@schema.parametrize()
@settings(max_examples=15, deadline=None)
def test_routes_do_what_they_promise(case):
    case.call_and_validate(
        headers={"Authorization": f"Bearer {TOKEN}"},
        checks=[
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_schema_conformance,
        ],
    )
