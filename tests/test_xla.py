"""The options that our programs are compiled with."""

import jax.numpy as jnp

from jaxstab import xla


def test_the_user_can_override_an_option():
    assert xla.compiler_options("") == xla.OPTIONS
    flags = "--xla_cpu_multi_thread_eigen=false --xla_gpu_enable_triton_gemm=true"
    assert "xla_gpu_enable_triton_gemm" not in xla.compiler_options(flags)
    assert xla.compiler_options("--xla_gpu_enable_triton_gemm_or_so=1") == xla.OPTIONS


def test_a_cpu_takes_the_options_of_a_gpu():
    assert xla.jit(lambda x: x + 1)(jnp.float32(1)) == 2
