"""Users of the simulated venue: tokens that expire and rotate, and keys for sockets."""

from __future__ import annotations

import base64
import secrets

import msgspec
from msgspec import Struct

USER_ID = 1_234_567


class _Issued(Struct):
    user_id: int
    expires_ms: int


class Accounts:
    """Issues tokens and keys and knows which of them are good.

    Attributes:
        refreshes: how often tokens were renewed.
    """

    def __init__(self, *, token_life_s: float, refresh_life_s: float) -> None:
        self._token_life_s = token_life_s
        self._refresh_life_s = refresh_life_s
        self._access: dict[str, _Issued] = {}
        self._refresh: dict[str, _Issued] = {}
        self._keys: dict[str, str] = {}
        self.refreshes = 0

    def log_in(self, now_ms: int, user_id: int = USER_ID) -> tuple[str, str]:
        """A new pair of access and refresh token, as a person gets it in the browser."""
        expires_ms = now_ms + int(self._token_life_s * 1000)
        access = make_token(user_id, issued_ms=now_ms, expires_ms=expires_ms)
        refresh = f"rt-{secrets.token_urlsafe(24)}"
        self._access[access] = _Issued(user_id, expires_ms)
        self._refresh[refresh] = _Issued(user_id, now_ms + int(self._refresh_life_s * 1000))
        return access, refresh

    def renew(self, refresh: str, now_ms: int) -> tuple[str, str] | None:
        """New tokens for a refresh token, which is dead from then on; None for one that is not good."""
        issued = self._refresh.pop(refresh, None)
        if issued is None or issued.expires_ms <= now_ms:
            return None
        self.refreshes += 1
        return self.log_in(now_ms, issued.user_id)

    def key(self, access: str, now_ms: int) -> str | None:
        """A key for one more socket; None for a token that is not good."""
        if not self.is_good(access, now_ms):
            return None
        key = base64.b64encode(secrets.token_bytes(32)).decode()
        self._keys[key] = access
        return key

    def is_good(self, access: str, now_ms: int) -> bool:
        """Whether an access token is known and has not expired or been killed."""
        issued = self._access.get(access)
        return issued is not None and issued.expires_ms > now_ms

    def lets_in(self, user_id: str, key: str, access: str, now_ms: int) -> bool:
        """Whether the three things a connection shows belong together."""
        issued = self._access.get(access)
        good = issued is not None and issued.expires_ms > now_ms and str(issued.user_id) == user_id
        return good and self._keys.get(key) == access

    def kill_tokens(self) -> None:
        """A log-in elsewhere: every access token is dead before its time."""
        self._access.clear()

    def kill_refresh_tokens(self) -> None:
        """The same for refresh tokens: only a person can log in again."""
        self._refresh.clear()


def make_token(user_id: int, *, issued_ms: int, expires_ms: int) -> str:
    """A token as the venue makes it, with a signature that nobody can check."""
    head = {"alg": "RS256", "typ": "JWT"}
    data = {"uid": user_id, "use": "somebody", "ema": "somebody@example.org", "ful": "Some Body", "cou": "ID"}
    payload = {
        "data": data,
        "exp": expires_ms / 1000,
        "iat": issued_ms / 1000,
        "iss": "STOCKBIT",
        "jti": secrets.token_hex(8),
    }
    parts = [_base64(msgspec.json.encode(head)), _base64(msgspec.json.encode(payload)), secrets.token_urlsafe(32)]
    return ".".join(parts)


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
