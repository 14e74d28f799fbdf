"""What the shared machinery learnt for a gateway over plain TCP."""

from src.venues.failures import ABNORMAL, classify
from src.venues.feed import Heartbeat
from src.venues.pulse import Pulse


def test_the_end_of_a_tcp_stream_is_an_end_without_good_bye_by_the_venue():
    failure = classify(EOFError("closed inside a frame"))
    assert (failure.reason, failure.closed_by_venue, failure.loud) == (ABNORMAL, True, False)


def test_a_pulse_keeps_the_interval_it_is_told_later():
    pulse = Pulse(Heartbeat(ping_every_s=8.0, deadline_s=25.0), 0.0)
    assert not pulse.ping_due(5.0)
    pulse.keep(Heartbeat(ping_every_s=4.0, deadline_s=2.0))
    assert pulse.ping_due(5.0)
    pulse.pinged(5.0)
    assert not pulse.dead(6.9)
    assert pulse.dead(7.1)
