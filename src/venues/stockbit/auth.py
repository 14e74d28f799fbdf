"""The log-in of the account: which tokens are in use, when they are renewed, and when a person has to log in again.

Tokens come from the settings, from the file of an earlier run, or are handed in while the program runs. They leave
this file towards the venue and the token file, and nowhere else.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any, Literal

import structlog
from msgspec import Struct
from pydantic import SecretStr

from src.models.clock import Clock
from src.models.errors import VenueError
from src.venues.stockbit.rest import StockbitRest, TokenRefusedError
from src.venues.stockbit.token_file import TokenFile
from src.venues.stockbit.tokens import Claims, TokenError, Tokens, check_refresh, clean, read_claims
from src.venues.stockbit.wire import Credentials

log = structlog.get_logger(__name__)

REFUSALS_MOST = 3
"""So often the venue may refuse in a row; then a person has to log in again."""

REFRESH_AHEAD_MS = 15 * 60_000
REFRESH_AHEAD_SHARE = 0.1
"""Tokens are renewed this long before they expire, or this share of their life, whichever is less."""

RETRY_FIRST_S = 30.0
RETRY_CAP_S = 300.0
LOOK_EVERY_S = 1.0

REMEDY = "log in at stockbit.com and hand the token to POST /api/stockbit/token"

AuthState = Literal["no token", "ready", "needs login"]


class Accepted(Struct, frozen=True):
    """What may be told about tokens that were handed in."""

    expires_ms: int
    can_refresh: bool
    kept: bool


class StockbitAuth:
    """Hands out credentials for connections as long as there is a token the venue takes.

    Attributes:
        state: ``needs login`` is left only by new tokens.
        why: what led to the state, in words without secrets.
        refusals: by the venue, in a row.
    """

    def __init__(
        self,
        *,
        rest: StockbitRest,
        file: TokenFile,
        clock: Clock,
        given: Tokens | None = None,
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        """Take the newer of the tokens of the settings (``given``) and of the file; ``on_ready`` after new ones."""
        self._rest = rest
        self._file = file
        self._clock = clock
        self._on_ready = on_ready or (lambda: None)
        self._tokens: Tokens | None = None
        self._claims: Claims | None = None
        self._in_use: SecretStr | None = None
        self._is_refused = False
        self._retry_at = -math.inf
        self._retry_pause_s = RETRY_FIRST_S
        self._ready = asyncio.Event()
        self._turn = asyncio.Lock()
        self.state: AuthState = "no token"
        self.why = "no token was given"
        self.refusals = 0
        self._start(given)

    @property
    def has_token(self) -> bool:
        """Whether there is, or was, a token to work with."""
        return self._tokens is not None

    def status(self) -> dict[str, Any]:
        """How it stands, without any token; JSON-ready."""
        claims, tokens = self._claims, self._tokens
        return {
            "state": self.state,
            "why": self.why,
            "remedy": "" if self.state == "ready" else REMEDY,
            "expires_in_s": None if claims is None else (claims.expires_ms - self._clock.wall_ms()) // 1000,
            "can_refresh": tokens is not None and tokens.refresh is not None,
            "refusals": self.refusals,
        }

    def hand_in(self, access: str, refresh: str | None = None) -> Accepted:
        """Use these from now on, and keep them for the next start.

        Raises:
            TokenError: the access token cannot be used (no JWT, expired without a refresh token, not of this venue).
        """
        access = clean(access)
        claims = read_claims(access)
        tokens = Tokens(SecretStr(access), None if not refresh else check_refresh(clean(refresh)))
        if tokens.refresh is None and claims.expires_ms <= self._clock.wall_ms():
            raise TokenError("the access token has expired; log in again and copy the new one")
        self._use(tokens, claims)
        self.refusals = 0
        self._retry_at, self._retry_pause_s = -math.inf, RETRY_FIRST_S
        kept = self._file.write(tokens)
        self._become_ready("handed in")
        return Accepted(claims.expires_ms, tokens.refresh is not None, kept)

    async def credentials(self) -> Credentials:
        """What the next connection shows: waits for a token, renews it where that is due, fetches a key.

        Raises:
            VenueError: the venue is out of reach, or refuses this machine for another reason than the token.
        """
        while True:
            await self._ready.wait()
            async with self._turn:
                if self.state != "ready" or not await self._make_usable():
                    continue
                assert self._tokens is not None
                assert self._claims is not None
                access, claims = self._tokens.access, self._claims
                try:
                    key = await self._rest.key(access)
                except TokenRefusedError as error:
                    self._note_refusal(access, str(error))
                    continue
                self._in_use = access
                return Credentials(claims.user_id, key, access)

    def refused(self, why: str) -> None:
        """The venue threw out the connection that shows the credentials handed out last."""
        if self._in_use is not None:
            self._note_refusal(self._in_use, f"the venue answered {why!r}")

    def accepted(self) -> None:
        """The venue sends data to that connection."""
        if self._tokens is not None and self._in_use == self._tokens.access:
            self.refusals = 0

    async def keep_fresh(self, stopping: asyncio.Event) -> None:
        """Renew tokens ahead of their expiry, until ``stopping`` is set."""
        while not await self._is_set_within(stopping, LOOK_EVERY_S):
            if self.state != "ready" or not self._is_due() or self._clock.monotonic() < self._retry_at:
                continue
            async with self._turn:
                try:
                    await self._make_usable()
                except VenueError as error:
                    log.warning("stockbit_token_not_renewed", error=str(error))

    @staticmethod
    async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return False
        return True

    # -- inside ------------------------------------------------------------------------------------------------------

    def _start(self, given: Tokens | None) -> None:
        candidates: list[tuple[int, Tokens, Claims]] = []
        for tokens in (given, self._file.read()):
            if tokens is None:
                continue
            try:
                claims = read_claims(tokens.access.get_secret_value())
            except TokenError as error:
                self.state, self.why = "needs login", str(error)
                log.error(  # noqa: TRY400 - no trace needed
                    "stockbit_token_not_usable", why=str(error), remedy="correct STOCKBIT_ACCESS_TOKEN"
                )
                continue
            candidates.append((claims.issued_ms or claims.expires_ms, tokens, claims))
        if not candidates:
            return
        _, tokens, claims = max(candidates, key=lambda candidate: candidate[0])
        self._use(tokens, claims)
        if tokens.refresh is None and claims.expires_ms <= self._clock.wall_ms():
            self._need_login("the token has expired")
        else:
            self._become_ready("known from the start")

    def _use(self, tokens: Tokens, claims: Claims) -> None:
        self._tokens = tokens
        self._claims = claims
        self._is_refused = False

    def _become_ready(self, why: str) -> None:
        self.state, self.why = "ready", why
        self._ready.set()
        self._on_ready()

    def _need_login(self, why: str) -> None:
        self.state, self.why = "needs login", why
        self._ready.clear()
        log.error("stockbit_needs_login", why=why, remedy=REMEDY)

    def _note_refusal(self, access: SecretStr, why: str) -> None:
        """A token was refused; one that has been replaced meanwhile says nothing about its successor."""
        if self._tokens is None or access != self._tokens.access or self.state != "ready":
            return
        self.refusals += 1
        self._is_refused = True
        log.warning("stockbit_token_refused", why=why, refusals=self.refusals, most=REFUSALS_MOST)
        if self.refusals >= REFUSALS_MOST:
            self._need_login(f"refused {self.refusals} times in a row: {why}")
        elif self._tokens.refresh is None:
            self._need_login(f"{why}; there is no refresh token to get a new one with")

    def _is_due(self) -> bool:
        """Whether the token is to be renewed now, if that is possible."""
        claims, now_ms = self._claims, self._clock.wall_ms()
        if claims is None or self._tokens is None or self._tokens.refresh is None:
            return False
        ahead_ms = float(REFRESH_AHEAD_MS)
        if claims.issued_ms is not None:
            ahead_ms = min(ahead_ms, (claims.expires_ms - claims.issued_ms) * REFRESH_AHEAD_SHARE)
        return self._is_refused or now_ms >= claims.expires_ms - ahead_ms

    async def _make_usable(self) -> bool:
        """Renew the token where that is due; False when a person has to log in first.

        Raises:
            VenueError: the venue is out of reach, and the present token cannot be used any more.
        """
        assert self._claims is not None
        usable = not self._is_refused and self._claims.expires_ms > self._clock.wall_ms()
        if self._is_due() and (not usable or self._clock.monotonic() >= self._retry_at):
            try:
                await self._renew()
            except TokenRefusedError as error:
                self._need_login(f"the refresh token is refused: {error}")
                return False
            except VenueError:
                self._retry_at = self._clock.monotonic() + self._retry_pause_s
                self._retry_pause_s = min(2 * self._retry_pause_s, RETRY_CAP_S)
                if not usable:
                    raise
        elif not usable:
            self._need_login("the token has expired")
            return False
        return True

    async def _renew(self) -> None:
        """Swap both tokens; the new ones are on disk before they are used, since the old ones are dead already."""
        before = self._tokens
        assert before is not None
        assert before.refresh is not None
        renewed = await self._rest.refresh(before.refresh)
        if self._tokens is not before:
            return  # others were handed in meanwhile
        tokens = Tokens(renewed.access, renewed.refresh or before.refresh)
        claims = read_claims(tokens.access.get_secret_value())
        self._file.write(tokens)
        self._use(tokens, claims)
        self._retry_at, self._retry_pause_s = -math.inf, RETRY_FIRST_S
        log.info("stockbit_token_renewed", valid_for_s=(claims.expires_ms - self._clock.wall_ms()) // 1000)
