"""The options that our programs are compiled with, and how we wait for them."""

import os
import signal
import threading

import jax.numpy as jnp
import numpy as np
import pytest

from jaxstab import xla
from jaxstab.cli.interrupts import interrupts


def test_the_user_can_override_an_option():
    assert xla.compiler_options("") == xla.OPTIONS
    flags = "--xla_cpu_multi_thread_eigen=false --xla_gpu_enable_triton_gemm=true"
    assert "xla_gpu_enable_triton_gemm" not in xla.compiler_options(flags)
    assert xla.compiler_options("--xla_gpu_enable_triton_gemm_or_so=1") == xla.OPTIONS


def test_a_cpu_takes_the_options_of_a_gpu():
    assert xla.jit(lambda x: x + 1)(jnp.float32(1)) == 2


def test_an_interrupt_does_not_wait_for_a_program():
    ended = threading.Event()

    def program(number):
        ended.wait(60)
        return {"a": number + 1}

    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    with pytest.raises(KeyboardInterrupt), interrupts():
        xla.fetch(program, 1)
    ended.set()
    np.testing.assert_array_equal(xla.fetch(program, 1)["a"], 2)


def test_errors_of_a_program_are_raised():
    with pytest.raises(ZeroDivisionError):
        xla.fetch(lambda number: number / 0, 1)
