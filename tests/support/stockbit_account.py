"""An account whose venue answers from lists, and tokens for it."""

import asyncio

from pydantic import SecretStr

from src.venues.stockbit.rest import TokenRefusedError
from src.venues.stockbit.simulator.accounts import make_token
from src.venues.stockbit.tokens import Tokens

NOW_MS = 1_770_000_000_000
DAY_MS = 86_400_000


class ScriptedRest:
    """Answers from lists; what is an exception is raised. ``asked`` remembers which token was shown."""

    def __init__(self):
        self.asked = []
        self.keys = []
        self.renewals = []

    async def key(self, access):
        self.asked.append(("key", access.get_secret_value()))
        await asyncio.sleep(0)
        return self._next(self.keys, SecretStr("key"))

    async def refresh(self, refresh):
        self.asked.append(("refresh", refresh.get_secret_value()))
        await asyncio.sleep(0)
        return self._next(self.renewals, None)

    @staticmethod
    def _next(answers, default):
        answer = answers.pop(0) if answers else default
        if isinstance(answer, Exception):
            raise answer
        return answer


def access(issued_ms=NOW_MS, life_ms=DAY_MS, user=1234567):
    return make_token(user, issued_ms=issued_ms, expires_ms=issued_ms + life_ms)


def pair(text=None, refresh="rt-0"):
    return Tokens(SecretStr(text or access()), None if refresh is None else SecretStr(refresh))


REFUSED = TokenRefusedError("HTTP 401")


async def credentials(auth):
    return await asyncio.wait_for(auth.credentials(), 5)


async def waits(auth):
    """True when nobody gets credentials."""
    task = asyncio.create_task(auth.credentials())
    for _ in range(50):
        await asyncio.sleep(0)
    waiting = not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return waiting
