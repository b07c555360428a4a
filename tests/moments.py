"""What a test waits for, and what it does once something is so far: no clock decides how it ends."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LONGEST_SECONDS = 120.0
"""Until what must come is there, on a machine however busy."""
SOON_SECONDS = 20.0
"""What is over within five on a machine of its own. Whatever is not waited for must take longer by far."""
LOOK_SECONDS = 0.02


def until(
    reached: Callable[[], object],
    what: Callable[[], object] | str = "it never came",
    seconds: float = LONGEST_SECONDS,
) -> None:
    """Wait for something that must come, and fail with `what` where it does not."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, what() if callable(what) else what
        time.sleep(LOOK_SECONDS)


class Moment:
    """When something was so far, as seen by a thread of its own."""

    def __init__(self) -> None:
        self.seconds = 0.0
        """From then to the end of the block."""
        self.at: float | None = None
        self.error: BaseException | None = None


@contextmanager
def once(reached: Callable[[], object], act: Callable[[], object]) -> Iterator[Moment]:
    """Beside the block: as soon as something is `reached`, `act`. The block must not end before."""
    moment, over = Moment(), threading.Event()

    def watch() -> None:
        try:
            while not reached():
                if over.wait(LOOK_SECONDS):
                    return
            moment.at = time.monotonic()
            act()
        except BaseException as error:
            moment.error = error

    thread = threading.Thread(target=watch, name="moment", daemon=True)
    thread.start()
    try:
        yield moment
    finally:
        ended = time.monotonic()
        over.set()
        thread.join()
    if moment.error is not None:
        raise moment.error
    assert moment.at is not None, "it ended before it was so far"
    moment.seconds = ended - moment.at
