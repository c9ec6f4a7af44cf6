"""The benchmark of takes really runs two nodes over a delayed link."""

from benchmarks import takes


def test_a_take_over_a_delay_takes_the_round_trips_of_its_messages_at_least():
    far = takes.take(0.2, 1)
    assert far.round_trips == 2
    (ms,) = far.ms
    assert 400 <= ms < 1200  # stop-and-wait, or a stream opened first, would take 1,200
