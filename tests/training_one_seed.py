"""One seed of a tiny model, trained by ours and by the same rules in PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_step import EXAMPLES, LENGTHS
from tiny import SIZES

from jaxstab.config import ModelConfig, hyperparameters, make_config
from jaxstab.data.batches import pack, steps_per_epoch
from jaxstab.experiment.inputs import make_recipe
from jaxstab.mitigation import make_methods, mitigated
from jaxstab.models.families import FAMILIES
from jaxstab.models.pretrained import load_encoder_config, load_pretrained
from jaxstab.runs.info import BatchGrid
from jaxstab.training.optimizer import learning_rate_at
from jaxstab.training.recipe import reference_part
from jaxstab.training.step import SeedInputs, init_state, train_steps, weights_in_use

KEY = jax.random.key(3)
STEPS = 6
FLOAT32 = {"base_precision": "float32"}
RNG = np.random.default_rng(5)
ORDER = np.stack([RNG.permutation(40)[:8] for _ in range(STEPS)]).astype(np.int32)


class Setup:
    """A tiny model without dropout, and the inputs of training one seed."""

    def __init__(self, directory, *methods, rows=(8,), model=FLOAT32, **settings):
        """Uses one grid that is large enough for any batch, because a step is compiled for each entry of `rows`."""
        train = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "weight_decay": 0.1, "dropout": 0.0}
        values = {"train": train | settings.pop("train", {}), "mitigation": {"methods": list(methods), **settings}}
        self.config = make_config({"model": {"source": "m"} | model, "task": {"source": "t"}, **values})
        made = make_methods(self.config.mitigation)
        train = mitigated(self.config.train, made)
        self.hyper = hyperparameters(self.config)
        encoder = load_encoder_config(directory, 2, ModelConfig(source=""), train.dropout)
        pretrained = load_pretrained(directory, encoder)
        steps = steps_per_epoch(len(LENGTHS), train.batch_size)
        grid = BatchGrid(rows, 16)
        self.recipe = make_recipe(
            self.config, pretrained, classes=2, metric="accuracy", steps_per_epoch=steps, grid=grid
        )
        self.pretrained = jax.tree.map(jnp.asarray, self.recipe.pretrained.params)
        self.inputs = SeedInputs(jax.random.key(0), KEY, pack(ORDER, LENGTHS, 16), self.hyper)
        self.start = init_state(self.recipe, self.pretrained, self.inputs)
        self.reference = reference_part(self.recipe, self.pretrained)
        self.context = self.recipe.context(self.hyper, self.reference)

    def weights(self, state):
        """All weights of the model; those to evaluate where they differ from the current ones."""
        return weights_in_use(self.recipe, state.evaluated, self.context)

    def train(self, steps=STEPS):
        def run(state, stop):
            return train_steps(self.recipe, state, self.inputs, self.reference, EXAMPLES, jnp.int32(0), stop)

        return jax.jit(run)(self.start, jnp.int32(steps))

    def rate(self, step):
        return float(learning_rate_at(jnp.int32(step), self.hyper, self.recipe.total_steps))


class Torch:
    """The same model and weights in PyTorch, with AdamW written out."""

    def __init__(self, directory, weights):
        torch = pytest.importorskip("torch")
        from transformers import BertForSequenceClassification

        self.torch, self.model = torch, BertForSequenceClassification.from_pretrained(directory, num_labels=2).train()
        self.names = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, value in to_torch(weights).items():
                self.names[name].copy_(torch.tensor(value))
        self.moments = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in self.names.items()}

    def loss(self, step):
        torch, indices = self.torch, ORDER[step]
        mask = np.arange(16) < LENGTHS[indices][:, None]
        return self.model(
            input_ids=torch.tensor(EXAMPLES.input_ids[indices]).long(),
            attention_mask=torch.tensor(mask).long(),
            labels=torch.tensor(EXAMPLES.labels[indices]).long(),
        ).loss

    def gradients(self, step):
        """Gradients of the parameters that require one."""
        self.model.zero_grad()
        self.loss(step).backward()
        return {name: p.grad.clone() for name, p in self.names.items() if p.requires_grad}

    def step(self, number, rate, gradients=None, factor=lambda name: 1.0, target=None, corrected=True):
        torch = self.torch
        gradients = self.gradients(number) if gradients is None else gradients
        norm = torch.sqrt(sum((g**2).sum() for g in gradients.values()))
        with torch.no_grad():
            for name, gradient in gradients.items():
                first, second = self.moments[name]
                gradient = gradient * min(1.0, 1.0 / float(norm))
                first.mul_(0.9).add_(0.1 * gradient)
                second.mul_(0.999).add_(0.001 * gradient**2)
                powers = (1 - 0.9 ** (number + 1), 1 - 0.999 ** (number + 1)) if corrected else (1, 1)
                update = (first / powers[0]) / ((second / powers[1]).sqrt() + 1e-8)
                weight = self.names[name]
                if not (name.endswith("bias") or "LayerNorm" in name):
                    update = update + 0.1 * (weight - (0 if target is None else target[name]))
                weight -= rate * factor(name) * update

    def assert_equal(self, weights, atol=2e-5):
        for name, value in to_torch(weights).items():
            if "key.bias" in name:  # its gradient is zero but for rounding, which AdamW scales up
                continue
            found = self.names[name].detach().numpy()
            np.testing.assert_allclose(value, found, atol=atol, err_msg=name)


def to_torch(weights):
    """Our parameters under the names of PyTorch's BERT."""
    bert = FAMILIES["bert"]
    found = {}
    for entry in bert.table(bert.read_config(SIZES, 2, None)):
        value = weights
        for name in entry.path:
            value = value[name]
        value = np.asarray(value)
        layers = enumerate(value) if entry.by_layer else [(0, value)]
        for layer, one in layers:
            found[entry.file_name.format(layer=layer)] = one.T.copy() if entry.transposed else one.copy()
    return found
