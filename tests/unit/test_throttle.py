"""The bandwidth cap: shared, changeable, interruptible."""

import threading

import pytest

from hyperctl.activities.export.throttle import Stopped, Throttle


def test_without_a_cap_nobody_waits() -> None:
    throttle = Throttle()
    for _ in range(1000):
        throttle.take(1 << 40, threading.Event())


def test_who_waits_can_be_stopped() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        Throttle(1).take(1000, stop)


def test_a_cap_that_is_lifted_lets_everybody_go_on() -> None:
    throttle = Throttle(1)
    threads = [threading.Thread(target=throttle.take, args=(1 << 20, threading.Event())) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert any(thread.is_alive() for thread in threads)
    throttle.change(None)
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_what_one_takes_the_others_lack() -> None:
    throttle = Throttle(1 << 30)
    throttle.take(1 << 20, threading.Event())
    throttle.change(1)
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        throttle.take(1 << 20, stop)
