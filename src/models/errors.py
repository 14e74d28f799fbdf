"""The one error tree. Each class says whether trying again can help; nobody parses error texts."""

from __future__ import annotations


class CollectorError(Exception):
    """Root of every error this program raises on purpose."""

    retryable: bool = False


class ConfigurationError(CollectorError):
    """A setting is wrong; the text names the setting, the value and the remedy."""


class WireError(CollectorError):
    """A frame is not what the venue promises. The only error that may leave a mapper.

    Attributes:
        reason: a short constant used as counter label and dead-letter reason, e.g. ``"malformed_json"``.
        detail: what was seen, cut to a loggable size.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class VenueError(CollectorError):
    """A venue could not be reached or answered with an error."""

    retryable = True


class VenueRateLimitedError(VenueError):
    """The venue said: too many requests.

    Attributes:
        retry_after_s: seconds the venue asked us to wait, None when it did not say.
    """

    def __init__(self, text: str, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class VenueFatalError(VenueError):
    """The venue refuses us for a reason that trying again does not cure (certificate, 403, credentials)."""

    retryable = False


class VenueRequestError(VenueError):
    """The venue understood us and says that this request is wrong; the same request will fail again."""

    retryable = False


class StoreError(CollectorError):
    """MongoDB did not take a batch."""

    retryable = True


class StoreFatalError(StoreError):
    """MongoDB refuses for a reason that trying again does not cure (rights, wrong URI, schema from the future)."""

    retryable = False


class DataDirectoryBusyError(CollectorError):
    """Another running instance owns the data directory."""


class WriterBusyError(CollectorError):
    """Another program writes to this database; the text names it."""


class WriterLostError(CollectorError):
    """Another program has taken over the writing to this database; this one must not go on."""


class EmbeddedServerError(CollectorError):
    """The embedded mongod could not be found or started; the text says what to do."""


class StreamRefusedError(CollectorError):
    """An order-book session cannot be started or stopped; the text is meant for the person who asked.

    Attributes:
        requires_login: a person has to log in at the venue first.
        later: it may work in a while, without anybody doing something.
    """

    def __init__(self, text: str, *, requires_login: bool = False, later: bool = False) -> None:
        super().__init__(text)
        self.requires_login = requires_login
        self.later = later


class BookRefusedError(CollectorError):
    """An order book that was handed in is not taken; the text is meant for whoever handed it in."""
