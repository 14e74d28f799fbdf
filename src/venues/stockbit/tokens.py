"""What an access token says about itself. It is signed by the venue; only the venue can check the signature.

No error text repeats any part of a token.
"""

from __future__ import annotations

import base64
import binascii
import math
import re

import msgspec
from msgspec import Struct
from pydantic import SecretStr

from src.models.errors import ConfigurationError

LONGEST_TOKEN_CHARS = 8_192
_BEARER = re.compile(r"^bearer +", re.IGNORECASE)
_PART = re.compile(r"[A-Za-z0-9_-]+={0,2}", re.ASCII)
_TEXT = re.compile(r"[!-~]+", re.ASCII)
_PARTS = 3


class TokenError(ConfigurationError):
    """A token that cannot be used; the text says why, without any of it."""


class Tokens(Struct, frozen=True):
    """What a log-in at the venue gives. The refresh token is worth seven days of new access tokens."""

    access: SecretStr
    refresh: SecretStr | None = None

    def __repr__(self) -> str:
        return "Tokens(***)"


class Claims(Struct, frozen=True):
    """What the middle part of an access token says; the personal fields in it are not read.

    Attributes:
        user_id: ``data.uid`` as decimal text; personal, so never printed.
        expires_ms: ``exp``.
        issued_ms: ``iat``, None where the token does not tell.
    """

    user_id: SecretStr
    expires_ms: int
    issued_ms: int | None = None

    def __repr__(self) -> str:
        return f"Claims(expires_ms={self.expires_ms})"


def clean(text: str) -> str:
    """A token as people paste it: without blanks around it, quotes, and the word Bearer."""
    return _BEARER.sub("", text.strip().strip("\"'")).strip()


def check_refresh(text: str) -> SecretStr:
    """A refresh token, of which only the venue knows the inside.

    Raises:
        TokenError: it is too long or holds characters that no token has.
    """
    if len(text) > LONGEST_TOKEN_CHARS or _TEXT.fullmatch(text) is None:
        raise TokenError("the refresh token is no token: empty, too long, or with blanks or control characters in it")
    return SecretStr(text)


def read_claims(token: str) -> Claims:
    """Read an access token (a JWT).

    Raises:
        TokenError: it is not one, or lacks ``exp`` or ``data.uid``.
    """
    if len(token) > LONGEST_TOKEN_CHARS:
        raise TokenError("the access token is too long to be one")
    parts = token.split(".")
    if len(parts) != _PARTS or not all(_PART.fullmatch(part) for part in parts):
        raise TokenError("the access token is no JWT; copy all of it, three parts with dots between them")
    try:
        middle = parts[1].rstrip("=")
        payload = base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4))
        said = _PAYLOAD.decode(payload)
    except (binascii.Error, ValueError, msgspec.MsgspecError, RecursionError):
        raise TokenError("the access token's middle part is not readable; copy the token again") from None
    user_id = _user_id(said.data.uid)
    if not math.isfinite(said.exp) or not 0 < said.exp < 1 << 40:
        raise TokenError("the access token names no usable time of expiry (exp)")
    issued = said.iat if said.iat is not None and 0 < said.iat < said.exp else None
    return Claims(SecretStr(user_id), int(said.exp * 1000), None if issued is None else int(issued * 1000))


class _Data(Struct):
    uid: int | str | None = None


class _Payload(Struct):
    exp: float = 0.0
    iat: float | None = None
    data: _Data = msgspec.field(default_factory=_Data)


_PAYLOAD = msgspec.json.Decoder(_Payload)


def _user_id(uid: int | str | None) -> str:
    text = "" if uid is None else str(uid)
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and int(text) > 0):  # noqa: PLR2004 - 64 bits
        raise TokenError("the access token names no user (data.uid); it is not of this venue")
    return text
