"""The HTTP application, put together."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import Depends, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from pydantic import SecretStr

from src.api import broadcast, coverage, health, market, orders, pages, positions, stats
from src.api import metrics as metrics_routes
from src.api import stockbit as stockbit_routes
from src.api import streams as stream_routes
from src.api import traders as traders_routes
from src.api.gateway import assets
from src.api.live import BookIntake
from src.api.models import one_value_each
from src.api.parts import Parts
from src.api.reading import Reader
from src.api.responses import install_error_handlers
from src.api.security import BodyLimit, HostCheck, SecurityHeaders
from src.models.clock import Clock
from src.models.metrics import Metrics
from src.models.status import StatusSource, StreamControl, TokenControl, TraderControl
from src.store.base import Store

TITLE = "Market collector"
DESCRIPTION = """What traders and order books did, and where there are holes.

Times in answers are RFC 3339 in UTC. Lists come in pages: hand `nextCursor` back as `cursor` for the next one.
Errors are `{"detail": "what is wrong and what to change"}`.
"""


def create_app(
    *,
    status: StatusSource,
    store: Store,
    metrics: Metrics,
    traders: TraderControl | None,
    token: SecretStr | None,
    allowed_origins: Sequence[str],
    clock: Clock,
    version: str,
    read_timeout_s: float = 5.0,
    streams: StreamControl | None = None,
    books: BookIntake | None = None,
    stockbit: TokenControl | None = None,
) -> FastAPI:
    """Build the application; it starts nothing and owns none of what it is given.

    Args:
        status: asked for health and stats; answers from memory.
        store: read by the ``/api`` routes.
        metrics: shown at ``/metrics``.
        traders: takes changes of the followed traders; None = this process follows none.
        token: needed for changes; None or empty = changes from loopback only, and every ``Host`` must be local.
        allowed_origins: browser origins (``https://host:port``, lower case) let in besides our own.
        clock: the time shown on the status page.
        version: of the program.
        read_timeout_s: after this many seconds a read of the store is answered with 503.
        streams: order-book sessions; None = this process holds none.
        books: takes order books from outside; None = this process takes none.
        stockbit: takes tokens of the Stockbit account; None = this process does not collect from there.
    """
    app = FastAPI(
        title=TITLE,
        description=DESCRIPTION,
        version=version,
        docs_url=None,  # pages.router serves it without a CDN
        redoc_url=None,
        redirect_slashes=False,
        # Nothing leaves this process unless a setting of ours says so.
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
        },
    )
    app.state.parts = Parts(
        status=status,
        reader=Reader(store, timeout_s=read_timeout_s),
        metrics=metrics,
        traders=traders,
        token=token,
        allowed_origins=tuple(allowed_origins),
        clock=clock,
        version=version,
        streams=streams,
        books=books,
        stockbit=stockbit,
    )
    for open_part in (pages, assets, health, stats, metrics_routes):
        app.include_router(open_part.router)
    for part in (traders_routes, orders, positions, stream_routes, market, coverage, broadcast, stockbit_routes):
        app.include_router(part.router, dependencies=[Depends(one_value_each)])
    install_error_handlers(app)
    _add_middleware(app, allowed_origins, check_host=not (token and token.get_secret_value()))
    return app


def _add_middleware(app: FastAPI, allowed_origins: Sequence[str], *, check_host: bool) -> None:
    """The last one added is the first to see a request."""
    app.add_middleware(BodyLimit)
    if check_host:
        app.add_middleware(HostCheck, allowed_origins=allowed_origins)
    if allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(allowed_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["authorization", "content-type"],
        )
    app.add_middleware(SecurityHeaders)
