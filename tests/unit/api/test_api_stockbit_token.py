"""Handing in a token over HTTP: who may, what is answered, and that nothing of a token ever comes back."""

import json

import pytest
import structlog
from pydantic import SecretStr

from src.models.errors import ConfigurationError
from src.models.status import TokenFacts

PATH = "/api/stockbit/token"
SECRET = "eyJhbGciOiJSUzI1NiJ9.c2VjcmV0.c2ln"


class FakeAccount:
    def __init__(self):
        self.taken = []
        self.error = None

    def hand_in(self, access, refresh):
        assert isinstance(access, SecretStr)
        if self.error:
            raise self.error
        self.taken.append((access.get_secret_value(), refresh and refresh.get_secret_value()))
        return TokenFacts(1_770_086_400_000, can_refresh=refresh is not None, kept=True)


@pytest.fixture
def account():
    return FakeAccount()


@pytest.fixture
async def asking(world, account):
    async with world.client(stockbit=account) as client:
        yield client


async def test_a_token_is_taken_and_not_repeated(asking, account):
    answer = await asking.post(PATH, json={"accessToken": SECRET, "refreshToken": "rt-1"})
    assert answer.status_code == 200
    assert answer.json() == {"expiresAt": "2026-02-03T02:40:00Z", "canRefresh": True, "kept": True}
    assert account.taken == [(SECRET, "rt-1")]
    assert SECRET not in answer.text + str(answer.headers)


async def test_the_refresh_token_may_be_missing(asking, account):
    assert (await asking.post(PATH, json={"accessToken": SECRET})).json()["canRefresh"] is False
    assert account.taken == [(SECRET, None)]


async def test_a_token_that_cannot_be_used_is_told_with_the_reason(asking, account):
    account.error = ConfigurationError("the access token has expired")
    answer = await asking.post(PATH, json={"accessToken": SECRET})
    assert (answer.status_code, answer.json()) == (422, {"detail": "the access token has expired"})


@pytest.mark.parametrize(
    "body",
    [
        {"accessToken": [SECRET]},
        {"accessToken": {"x": SECRET}},
        {"accessToken": 5, "refreshToken": SECRET},
        {"accesstoken": SECRET},
        {"accessToken": SECRET, "refreshToken": [SECRET]},
        {"accessToken": SECRET, "token": SECRET},
        {"accessToken": SECRET, SECRET: 1},
        SECRET,
        [SECRET],
        {},
    ],
)
async def test_a_wrong_body_is_not_repeated(asking, account, body):
    with structlog.testing.capture_logs() as logs:
        answer = await asking.post(PATH, json=body)
    assert answer.status_code == 422
    if not (isinstance(body, dict) and SECRET in body):  # a token as the name of a field is beyond help
        assert SECRET[:20] not in answer.text
    assert SECRET not in str(logs)
    assert account.taken == []


async def test_what_is_no_json_is_not_repeated(asking):
    content = json.dumps({"accessToken": SECRET})[:-1]
    answer = await asking.post(PATH, content=content, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    assert SECRET not in answer.text


async def test_the_rule_of_changing_requests(world, account):
    async with world.client(stockbit=account, token="t" * 20) as client:
        assert (await client.post(PATH, json={"accessToken": SECRET})).status_code == 401
        wrong = await client.post(PATH, json={"accessToken": SECRET}, headers={"authorization": "Bearer x"})
        assert wrong.status_code == 401
        right = await client.post(PATH, json={"accessToken": SECRET}, headers={"authorization": f"Bearer {'t' * 20}"})
        assert right.status_code == 200
    async with world.client(stockbit=account) as client:
        foreign = await client.post(PATH, json={"accessToken": SECRET}, headers={"origin": "https://evil.example"})
        assert foreign.status_code == 403
    assert len(account.taken) == 1


async def test_a_process_that_does_not_collect_there_says_so(world):
    async with world.client() as client:
        answer = await client.post(PATH, json={"accessToken": SECRET})
    assert answer.status_code == 409
    assert "STOCKBIT_ENABLED" in answer.json()["detail"]


async def test_reading_it_is_not_possible(asking):
    assert (await asking.get(PATH)).status_code == 405
