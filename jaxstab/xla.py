"""How XLA compiles our programs, and how we wait for them.

`jit` has options of our own, which do not depend on the user's environment. It is only for whole programs: JAX does not
allow options for a function that is called in another compiled one.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import numpy as np

# Options for a GPU, which other devices ignore (`benchmarks/README.md`). Trying out Triton's matrix products took 80 of
# 87 seconds of compiling a training step on an H100, and cuBLAS was as fast. Trying out cuBLAS's own algorithms gains
# nothing either, and may choose others the next time, which changes the last bits.
OPTIONS: dict[str, bool | int | str] = {"xla_gpu_enable_triton_gemm": False, "xla_gpu_autotune_level": 0}


def compiler_options(flags: str | None = None) -> dict[str, Any]:
    """Returns the options that our programs are compiled with, without those that the user sets.

    Args:
        flags: the user's options, as in the environment variable `XLA_FLAGS`, which is the default.
    """
    given = os.environ.get("XLA_FLAGS", "") if flags is None else flags
    named = {one.removeprefix("--").partition("=")[0] for one in given.split()}
    return {name: value for name, value in OPTIONS.items() if name not in named}


jit = partial(jax.jit, compiler_options=compiler_options())


def fetch(program: Callable[..., Any], *arguments: Any) -> Any:
    """Returns the results of a compiled program as numpy arrays, without keeping an interrupt waiting.

    Python hears no signal while it waits for XLA, so another thread waits. After an interrupt it still does, until
    the program has ended.
    """
    waiting = ThreadPoolExecutor(1)
    try:
        return waiting.submit(lambda: jax.tree.map(np.array, program(*arguments))).result()
    finally:
        waiting.shutdown(wait=False)
