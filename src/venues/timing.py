"""Every waiting time of the connection machinery, in seconds, in one place; tests hand in shorter ones."""

from __future__ import annotations

from msgspec import Struct


class Timing(Struct, frozen=True):
    """How long things may take and how often they are looked at.

    Attributes:
        open_timeout_s: name look-up, TCP, TLS and handshake together.
        close_timeout_s: closing handshake; afterwards the socket is simply dropped.
        send_timeout_s: one frame to leave our buffers; a peer that no longer reads counts as dead.
        tick_s: how often deadlines are looked at; the granularity of all of them.
        retry_first_s, retry_cap_s: exponential back-off doubles from the first to the cap, with full jitter.
        healthy_after_s: failures are forgiven after valid data and this long a healthy life.
        attempts_most, attempts_window_s: hard bound of attempts of one connection, whatever the jitter says.
        rate_limited_s, rate_limited_cap_s: waiting after HTTP 429 without ``Retry-After``; most we wait with it.
        login_deadline_s: from the handshake to the venue's word that we are logged in, its greeting included.
        slow_retry_s: pause after a log-in was refused for a reason that only time or another program ends.
        ack_deadline_s: a subscription the venue has not confirmed by then counts as refused.
        refused_retry_s: how often a refused subscription is tried again.
        invalid_retry_s: the same for one the venue does not know; it may have been listed meanwhile.
        message_pause_s: no subscribing for so long after the venue complained about too many messages.
        idle_close_s: a connection that carries nothing is closed after this.
        drain_s: how long `Pool.close` waits for closing handshakes.
        log_repeat_s: the same log line at most once in this time.
        task_restart_s: pause before a task that raised is started again; doubles up to ``retry_cap_s``.
    """

    open_timeout_s: float = 10.0
    close_timeout_s: float = 5.0
    send_timeout_s: float = 10.0
    tick_s: float = 0.5
    retry_first_s: float = 1.0
    retry_cap_s: float = 32.0
    healthy_after_s: float = 30.0
    attempts_most: int = 8
    attempts_window_s: float = 60.5
    rate_limited_s: float = 60.0
    rate_limited_cap_s: float = 900.0
    login_deadline_s: float = 10.0
    slow_retry_s: float = 120.0
    ack_deadline_s: float = 10.0
    refused_retry_s: float = 60.0
    invalid_retry_s: float = 600.0
    message_pause_s: float = 30.0
    idle_close_s: float = 10.0
    drain_s: float = 10.0
    log_repeat_s: float = 300.0
    task_restart_s: float = 1.0
