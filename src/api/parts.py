"""What the HTTP side is given, and how a route gets at it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request
from pydantic import SecretStr

from src.api.live import BookIntake
from src.api.reading import Reader
from src.models.clock import Clock
from src.models.metrics import Metrics
from src.models.status import StatusSource, StreamControl, TokenControl, TraderControl


@dataclass(frozen=True, slots=True)
class Parts:
    """The neighbours of the HTTP side.

    ``traders`` is None when no trader is followed by this process, ``streams`` when it holds no order-book sessions,
    ``books`` when it takes none from outside, ``stockbit`` when it does not collect from there.
    """

    status: StatusSource
    reader: Reader
    metrics: Metrics
    traders: TraderControl | None
    token: SecretStr | None
    allowed_origins: tuple[str, ...]
    clock: Clock
    version: str
    streams: StreamControl | None = None
    books: BookIntake | None = None
    stockbit: TokenControl | None = None


async def parts_of(request: Request) -> Parts:
    """The parts of the application that serves this request."""
    return cast("Parts", request.app.state.parts)


PartsOf = Annotated[Parts, Depends(parts_of)]
