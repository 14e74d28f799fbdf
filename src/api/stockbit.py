"""Taking a token of the Stockbit account while the program runs. What is handed in is never shown again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from starlette.exceptions import HTTPException

from src.api.models import NoQuery
from src.api.parts import PartsOf
from src.api.responses import json_response, problems
from src.api.security import may_change

router = APIRouter(prefix="/api/stockbit", tags=["stockbit"])


class StockbitTokens(BaseModel):
    """The tokens that a log-in at stockbit.com gives."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    accessToken: SecretStr = Field(description="the bearer token (a JWT), with or without the word Bearer")  # noqa: N815
    refreshToken: SecretStr | None = Field(None, description="renews the other one before it expires")  # noqa: N815


class StockbitTokenTaken(BaseModel):
    """What may be told about a token that was taken."""

    expiresAt: datetime  # noqa: N815
    canRefresh: bool = Field(description="it is renewed before it expires")  # noqa: N815
    kept: bool = Field(description="it is on disk for the next start")


@router.post(
    "/token",
    response_model=StockbitTokenTaken,
    responses=problems(401, 403, 409, 413, 422),
    dependencies=[Depends(may_change)],
)
async def take_token(parts: PartsOf, body: StockbitTokens, _: Annotated[NoQuery, Query()]) -> Response:
    """Log in to Stockbit with this token from now on; it is kept on disk, readable by this user alone."""
    if parts.stockbit is None:
        raise HTTPException(409, "this process does not collect from Stockbit; set STOCKBIT_ENABLED=true and restart")
    taken = parts.stockbit.hand_in(body.accessToken, body.refreshToken)
    expires = datetime.fromtimestamp(taken.expires_ms / 1000, UTC)
    return json_response({"expiresAt": expires, "canRefresh": taken.can_refresh, "kept": taken.kept})
