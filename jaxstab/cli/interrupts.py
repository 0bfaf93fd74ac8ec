"""Signals that end a command."""

import _thread
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

AGAIN = 0.01  # seconds until a lost interrupt is repeated; by then the callback has most likely ended


@contextmanager
def interrupts() -> Iterator[None]:
    """SIGTERM, which schedulers send before they kill, is like Ctrl-C; both raise KeyboardInterrupt.

    Python ignores exceptions in some callbacks, such as JAX's in garbage collection. An interrupt that is lost in one
    is repeated.
    """

    def terminate(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    def ignored(found: "sys.UnraisableHookArgs") -> None:
        if found.exc_type is KeyboardInterrupt:
            threading.Timer(AGAIN, _thread.interrupt_main).start()
        else:
            hook(found)

    before, hook = signal.signal(signal.SIGTERM, terminate), sys.unraisablehook
    sys.unraisablehook = ignored
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        sys.unraisablehook = hook
