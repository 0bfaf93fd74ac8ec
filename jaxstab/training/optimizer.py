"""The optimiser of one seed: AdamW, its schedule, and moments in bfloat16."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxstab.config import TrainConfig
from jaxstab.mitigation import map_named

UNDECAYED = ("bias", "scale")
# Hyper-parameters by config key; they may differ between seeds (`jaxstab.config.hyperparameters`).
Hyper = Mapping[str, Any]
Tree = Any  # of arrays; optax's own names for it cannot be checked at run time with older versions of chex


def learning_rate_at(step: Int[Array, ""], hyper: Hyper, total_steps: int) -> Float[Array, ""]:
    """Returns the learning rate at a step counted from 0: linear warm-up, then linear decay to 0.

    Source: Hugging Face's `get_linear_schedule_with_warmup`, so the very first step has rate 0.
    """
    # A share such as 0.3 of 10 steps may come out just below 3 in float32.
    warmup = jnp.floor(hyper["train.warmup"] * total_steps * (1 + 1e-6))
    rise = step / jnp.maximum(1, warmup)
    fall = (total_steps - step) / jnp.maximum(1, total_steps - warmup)
    return hyper["train.learning_rate"] * jnp.clip(jnp.where(step < warmup, rise, fall), 0.0)


def make_optimizer(config: TrainConfig, hyper: Hyper) -> optax.GradientTransformation:
    """Returns AdamW after clipping by global norm; the caller multiplies by the learning rate.

    Weight decay pulls the given parameters towards 0.

    Source: Loshchilov & Hutter (2019); biases and LayerNorm are not decayed.
    """

    def decayed(params: Any) -> Any:
        return map_named(lambda path, _: path[-1] not in UNDECAYED, params)

    adam = optax.scale_by_adam if config.bias_correction else scale_by_uncorrected_adam
    return optax.chain(
        optax.clip_by_global_norm(hyper["train.clip_norm"]),
        adam(config.beta1, config.beta2, config.epsilon),
        optax.add_decayed_weights(hyper["train.weight_decay"], decayed),
    )


def scale_by_uncorrected_adam(beta1: float, beta2: float, epsilon: float) -> optax.GradientTransformation:
    """Returns Adam without bias correction: the first steps are up to (1 - beta1) / sqrt(1 - beta2) times larger.

    Source: Devlin et al. (2019), their code.
    """

    def update(updates: Tree, state: Tree, params: Tree | None = None) -> tuple[Tree, Tree]:
        mu = optax.tree.update_moment(updates, state.mu, beta1, 1)
        nu = optax.tree.update_moment_per_elem_norm(updates, state.nu, beta2, 2)
        updates = jax.tree.map(lambda first, second: first / (jnp.sqrt(second) + epsilon), mu, nu)
        return updates, state._replace(mu=mu, nu=nu)

    return optax.GradientTransformation(optax.scale_by_adam(beta1, beta2, epsilon).init, update)


def widened(opt_state: Tree) -> Tree:
    """Returns the state with its bfloat16 arrays converted to float32."""
    return jax.tree.map(lambda x: x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x, opt_state)


def narrowed(opt_state: Tree, key: PRNGKeyArray) -> Tree:
    """Returns the state with its float32 arrays converted to bfloat16 by stochastic rounding, which is unbiased.

    With rounding to nearest, AdamW's second moment would never change: its relative change per step is about 1/1000,
    and the precision of bfloat16 is 1/256.

    Source: Zamirai et al. (2020), "Revisiting BFloat16 Training".
    """
    leaves, definition = jax.tree.flatten(opt_state)

    def rounded(number: int, x: Array) -> Array:
        bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
        words = jax.random.bits(jax.random.fold_in(key, number), (-(-x.size // 2),), jnp.uint32)
        noise = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)[: x.size].reshape(x.shape)
        # Bfloat16 is the upper half of float32. The sum carries into it with probability lower half / 2^16.
        upper = (bits + noise.astype(jnp.uint32)) >> 16
        return jax.lax.bitcast_convert_type(upper.astype(jnp.uint16), jnp.bfloat16)

    moved = [rounded(i, x) if x.dtype == jnp.float32 else x for i, x in enumerate(leaves)]
    return jax.tree.unflatten(definition, moved)
