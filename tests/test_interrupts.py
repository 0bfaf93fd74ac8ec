"""Interrupts that come while Python ignores exceptions."""

import gc
import os
import signal
import time

import pytest

from jaxstab.cli.interrupts import interrupts


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupt_in_a_callback_of_garbage_collection_is_not_lost(number, capsys):
    sent = []

    def callback(phase, information):
        if not sent:
            sent.append(number)
            os.kill(os.getpid(), number)
            sum(range(100))  # Python handles the signal here, and ignores what the handler raises

    try:
        with pytest.raises(KeyboardInterrupt):
            _collect(callback)
    finally:
        gc.callbacks.remove(callback)
    assert sent == [number]
    assert not capsys.readouterr().err


def _collect(callback):
    with interrupts():
        gc.callbacks.append(callback)
        gc.collect()
        time.sleep(10)


def test_other_exceptions_in_callbacks_are_still_shown(monkeypatch):
    seen = []
    monkeypatch.setattr("sys.unraisablehook", seen.append)

    class Odd:
        def __del__(self):
            raise ValueError("odd")

    with interrupts():
        Odd()
        gc.collect()
    assert [found.exc_type for found in seen] == [ValueError]
