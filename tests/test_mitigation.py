"""Each method against hand-worked cases and against its rule written in PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from test_step import EXAMPLES
from tiny import SIZES, write_checkpoint
from training_one_seed import KEY, STEPS, Setup, Torch

from jaxstab.config import make_config
from jaxstab.data.batches import make_batch
from jaxstab.errors import InputError
from jaxstab.models.parameters import join_layers, merge_adapters
from jaxstab.training.step import init_state, loss_fn, untouched_decay, weights_in_use

pytestmark = pytest.mark.optimiser


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    sizes = {**SIZES, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return write_checkpoint(tmp_path_factory.mktemp("model"), sizes)


def test_the_standard_recipe_in_pytorch(directory):
    ours = Setup(directory, rows=(4, 5, 8))
    theirs = Torch(directory, ours.weights(ours.start))
    for step in range(STEPS):
        theirs.step(step, ours.rate(step))
    theirs.assert_equal(ours.weights(ours.train()))


def test_llrd_in_pytorch(directory):
    """The learning rate is multiplied by 1 for the head, by the factor and its square for layers 1 and 0, and so on."""
    ours = Setup(directory, "llrd", llrd={"rate": 0.5})
    theirs = Torch(directory, ours.weights(ours.start))

    def factor(name):
        if name.startswith(("classifier", "bert.pooler")):
            return 1.0
        return 0.5 if "layer.1." in name else 0.25 if "layer.0." in name else 0.125

    for step in range(STEPS):
        theirs.step(step, ours.rate(step), factor=factor)
    theirs.assert_equal(ours.weights(ours.train()))


def test_wd_pre_in_pytorch(directory):
    ours = Setup(directory, "wd_pre")
    theirs = Torch(directory, ours.weights(ours.start))
    target = {name: 0 if name.startswith("classifier") else p.detach().clone() for name, p in theirs.names.items()}
    for step in range(STEPS):
        theirs.step(step, ours.rate(step), target=target)
    theirs.assert_equal(ours.weights(ours.train()))
    assert untouched_decay(ours.recipe, ours.hyper, STEPS) == 1.0


@pytest.mark.slow
def test_no_bias_correction_in_pytorch(directory):
    ours = Setup(directory, "no_bias_correction")
    theirs = Torch(directory, ours.weights(ours.start))
    for step in range(STEPS):
        theirs.step(step, ours.rate(step), corrected=False)
    theirs.assert_equal(ours.weights(ours.train()), atol=1e-4)
    moved = [np.abs(one.train(2).params["pooler"]["kernel"] - one.start.params["pooler"]["kernel"]).max()
             for one in (ours, Setup(directory))]  # fmt: skip
    # The first step has learning rate 0; the second step is (1 - .9^2) / sqrt(1 - .999^2) = 4.2 times as long.
    assert 3 < moved[0] / moved[1] < 5


@pytest.mark.slow
def test_sam_in_pytorch_and_in_optax(directory):
    import optax

    ours = Setup(directory, "sam", sam={"rho": 0.1})
    theirs = Torch(directory, ours.weights(ours.start))
    for step in range(STEPS):
        gradients = theirs.gradients(step)
        norm = theirs.torch.sqrt(sum((g**2).sum() for g in gradients.values()))
        with theirs.torch.no_grad():
            for name, gradient in gradients.items():
                theirs.names[name] += 0.1 * gradient / norm
        uphill = theirs.gradients(step)
        with theirs.torch.no_grad():
            for name, gradient in gradients.items():
                theirs.names[name] -= 0.1 * gradient / norm
        theirs.step(step, ours.rate(step), gradients=uphill)
    theirs.assert_equal(ours.weights(ours.train()), atol=1e-4)

    quadratic = lambda w: jnp.sum(jnp.asarray([1.0, 10.0]) * w["x"] ** 2)  # noqa: E731
    params = {"x": jnp.asarray([1.0, -2.0])}
    (method,) = ours.recipe.methods
    _, gradient = method.gradient(jax.value_and_grad(quadratic), ours.context)(params)
    adversary = optax.chain(optax.contrib.normalize(), optax.sgd(0.1))
    sam = optax.contrib.sam(optax.sgd(1.0), adversary, opaque_mode=True)
    updates, _ = sam.update(
        jax.grad(quadratic)(params), sam.init(params), params, grad_fn=lambda w, _: jax.grad(quadratic)(w)
    )
    np.testing.assert_allclose(gradient["x"], -updates["x"], rtol=1e-5)


def test_ema_in_pytorch(directory):
    ours = Setup(directory, "ema", ema={"decay": 0.7})
    theirs = Torch(directory, ours.weights(ours.start))
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    averaged = AveragedModel(theirs.model, multi_avg_fn=get_ema_multi_avg_fn(0.7))
    averaged.update_parameters(theirs.model)  # the first update copies the parameters
    for step in range(STEPS):
        theirs.step(step, ours.rate(step))
        averaged.update_parameters(theirs.model)
    state = ours.train()
    theirs.assert_equal(state.params)
    theirs.names = dict(averaged.module.named_parameters())
    theirs.assert_equal(ours.weights(state))


@pytest.mark.parametrize("method", ["bitfit", "freeze"])
def test_untrained_parameters_stay_and_the_rest_agrees_with_pytorch(directory, method):
    ours = Setup(directory, method)
    theirs = Torch(directory, ours.weights(ours.start))
    for name, weight in theirs.names.items():
        head = name.startswith(("classifier",) if method == "bitfit" else ("classifier", "bert.pooler"))
        weight.requires_grad = head or (method == "bitfit" and name.endswith("bias"))
    for step in range(STEPS):
        theirs.step(step, ours.rate(step))
    state = ours.train()
    theirs.assert_equal(ours.weights(state))
    trained = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    assert trained == sum(p.numel() for p in theirs.names.values() if p.requires_grad)
    assert untouched_decay(ours.recipe, ours.hyper, STEPS) == 1.0


def _mixed(ours, params, key):
    (method,) = ours.recipe.methods
    return method.weights(params, key, ours.context)


@pytest.mark.slow
def test_mixout_by_hand_and_in_pytorch(directory):
    torch = pytest.importorskip("torch")
    ours = Setup(directory, "mixout", mixout={"p": 0.25})
    pretrained, params = ours.pretrained, ours.start.params
    params = jax.tree.map(lambda x: x + 0.3, params)
    mixed = _mixed(ours, params, KEY)
    weight, anchor, found = (np.asarray(tree["layers"]["output"]["kernel"]) for tree in (params, pretrained, mixed))
    replaced = np.isclose(found, anchor, atol=1e-6)
    assert 0.22 < replaced.mean() < 0.28
    np.testing.assert_allclose(found[~replaced], ((weight - 0.25 * anchor) / 0.75)[~replaced], atol=1e-6)
    for untouched in ("embeddings", "classifier"):
        jax.tree.map(np.testing.assert_array_equal, mixed[untouched], params[untouched])
    np.testing.assert_array_equal(mixed["layers"]["output"]["bias"], params["layers"]["output"]["bias"])
    # Its expectation is the current weight.
    mean = np.mean([_mixed(ours, params, jax.random.key(i))["pooler"]["kernel"] for i in range(400)], axis=0)
    assert abs((mean - params["pooler"]["kernel"]).mean()) < 2e-3
    # The original form of Lee et al., with its gradient.
    w, u = torch.tensor(weight, requires_grad=True), torch.tensor(anchor)
    mask = torch.tensor(replaced, dtype=torch.float32)
    theirs = (mask * u + (1 - mask) * w - 0.25 * u) / (1 - 0.25)
    (theirs**2).sum().backward()
    np.testing.assert_allclose(found, theirs.detach().numpy(), atol=1e-6)
    gradient = jax.grad(lambda p: jnp.sum(_mixed(ours, p, KEY)["layers"]["output"]["kernel"] ** 2))(params)
    np.testing.assert_allclose(gradient["layers"]["output"]["kernel"], w.grad.numpy(), atol=1e-5)
    assert ours.recipe.config.dropout == 0
    jax.tree.map(np.testing.assert_array_equal, _mixed(ours, params, None), params)


def test_reinit_draws_the_pooler_and_the_top_layers_anew(directory):
    ours, plain = Setup(directory, "reinit", reinit={"layers": 1}), Setup(directory)
    found, before = ours.start.params, plain.start.params
    jax.tree.map(np.testing.assert_array_equal, found["embeddings"], before["embeddings"])
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[0], b[0]), found["layers"], before["layers"])
    np.testing.assert_array_equal(found["layers"]["output_norm"]["scale"][1], 1)
    np.testing.assert_array_equal(found["layers"]["output_norm"]["bias"][1], 0)
    np.testing.assert_array_equal(found["layers"]["attention"]["query"]["bias"][1], 0)
    for kernel in (found["pooler"]["kernel"], found["layers"]["intermediate"]["kernel"][1]):
        assert scipy.stats.kstest(np.ravel(kernel), scipy.stats.norm(0, 0.02).cdf).pvalue > 1e-3
    other = init_state(ours.recipe, ours.pretrained, ours.inputs._replace(init_key=jax.random.key(1))).params
    assert not np.array_equal(other["pooler"]["kernel"], found["pooler"]["kernel"])


def test_reinitialised_layers_are_not_pulled_to_pretrained_values(directory):
    """Under reinit the top layer and the pooler have no pre-trained value: they decay to 0, and mixout skips them."""
    ours = Setup(directory, "reinit", "wd_pre", reinit={"layers": 1})
    target = ours.recipe.methods[1].decay_target(ours.start.params, ours.context)
    kernel = target["layers"]["output"]["kernel"]
    np.testing.assert_array_equal(kernel[0], ours.pretrained["layers"]["output"]["kernel"][0])
    np.testing.assert_array_equal(kernel[1], 0)
    np.testing.assert_array_equal(target["pooler"]["kernel"], 0)
    mixing = Setup(directory, "reinit", "mixout", reinit={"layers": 1}, mixout={"p": 0.5})
    params = mixing.start.params
    mixed = mixing.recipe.methods[1].weights(params, KEY, mixing.context)
    np.testing.assert_allclose(
        mixed["layers"]["output"]["kernel"][1], params["layers"]["output"]["kernel"][1], atol=1e-6
    )


@pytest.mark.slow
def test_noisy_tune_by_hand(directory):
    torch = pytest.importorskip("torch")
    ours, plain = Setup(directory, "noisy_tune", noisy_tune={"strength": 0.4}), Setup(directory)
    for path in (("layers", "intermediate", "kernel"), ("embeddings", "word", "embedding")):
        found, before = ours.start.params, plain.start.params
        for name in path:
            found, before = found[name], before[name]
        stacks = zip(found, before, strict=True) if path[0] == "layers" else [(found, before)]
        for one, old in stacks:
            noise = (np.asarray(one) - np.asarray(old)) / (0.4 * float(torch.std(torch.tensor(np.asarray(old)))))
            assert scipy.stats.kstest(np.ravel(noise), scipy.stats.uniform(-0.5, 1.0).cdf).pvalue > 1e-3
    jax.tree.map(np.testing.assert_array_equal, ours.start.params["classifier"], plain.start.params["classifier"])


def test_r_drop_in_pytorch(directory):
    torch = pytest.importorskip("torch")
    ours = Setup(directory, "r_drop", r_drop={"alpha": 0.7})
    (method,) = ours.recipe.methods
    batch = make_batch(EXAMPLES, np.array([3, 5, 8, -1]), np.array([0, 16, 32, 0]), 4)
    passes = [np.random.default_rng(i).standard_normal((4, 2)).astype(np.float32) for i in range(2)]
    remaining = list(passes)
    loss = method.loss(lambda key: jnp.asarray(remaining.pop(0)), batch, KEY, ours.context)
    first, second = (torch.tensor(one[:3]) for one in passes)
    labels = torch.tensor(np.asarray(batch.labels[:3])).long()
    logs = [torch.log_softmax(one, dim=1) for one in (first, second)]
    entropy = torch.nn.functional.cross_entropy
    both = sum(torch.nn.functional.kl_div(a, b, log_target=True, reduction="batchmean") for a, b in (logs, logs[::-1]))
    expected = 0.5 * (entropy(first, labels) + entropy(second, labels)) + 0.7 * both / 2
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.slow
def test_r_drop_passes_differ_by_dropout_only(directory):
    ours = Setup(directory, "r_drop", train={"dropout": 0.1})
    plain = Setup(directory, train={"dropout": 0.1})
    batch = make_batch(EXAMPLES, np.arange(8), 16 * np.arange(8), 8)
    without = loss_fn(plain.start.params, plain.recipe, batch, None, plain.context)
    np.testing.assert_allclose(loss_fn(ours.start.params, ours.recipe, batch, None, ours.context), without, rtol=1e-6)
    silent = Setup(directory, "r_drop")
    np.testing.assert_allclose(
        loss_fn(ours.start.params, silent.recipe, batch, KEY, silent.context), without, rtol=1e-6
    )
    assert float(loss_fn(ours.start.params, ours.recipe, batch, KEY, ours.context)) > float(without) - 1


def test_longer_sets_the_epochs(directory):
    assert Setup(directory, "longer").recipe.total_steps == 20 * 5
    assert Setup(directory, "longer", longer={"epochs": 7}).recipe.total_steps == 7 * 5


def test_untouched_decay_follows_the_learning_rates_of_the_layers(directory):
    ours = Setup(directory, "llrd", llrd={"rate": 0.5})
    expected = np.prod([1 - ours.rate(step) * 0.5**3 * 0.1 for step in range(STEPS)])
    assert untouched_decay(ours.recipe, ours.hyper, STEPS) == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_methods_can_be_combined(directory):
    together = ("mixout", "llrd", "reinit", "wd_pre", "ema", "sam", "no_bias_correction")
    state = Setup(directory, *together, reinit={"layers": 1}).train(2)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))


@pytest.mark.parametrize(
    ("mitigation", "message"),
    [
        ({"method": "mixot"}, "mitigation.method = 'mixot': should be 'standard', 'mixout'"),
        ({"method": "mixout", "mixout": {"p": 1.5}}, "mitigation.mixout.p = 1.5: should be less than"),
        ({"method": "mixout", "mixout": {"q": 0.5}}, "unknown key mitigation.mixout.q; known here: p"),
        ({"mixout": {"p": 0.5}}, "mitigation.mixout is given, but mixout is not among the methods"),
        ({"methods": ["lora", "reinit"]}, "lora and reinit exclude each other"),
        ({"methods": ["llrd", "llrd"]}, "names a method twice"),
        ({"method": "llrd", "methods": ["reinit"]}, "exclude each other; keep one"),
    ],
)
def test_bad_choices(mitigation, message):
    with pytest.raises(InputError) as caught:
        make_config({"model": {"source": "m"}, "task": {"source": "t"}, "mitigation": mitigation})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_bottom_layer_frozen_in_pytorch(directory):
    ours = Setup(directory, "freeze", freeze={"layers": 1})
    theirs = Torch(directory, join_layers(ours.weights(ours.start)))
    for name, weight in theirs.names.items():
        weight.requires_grad = "embeddings" not in name and "layer.0." not in name
    for step in range(STEPS):
        theirs.step(step, ours.rate(step))
    theirs.assert_equal(join_layers(ours.weights(ours.train())))


def test_lora_in_pytorch(directory):
    """Adapters train while the weights stay fixed; merged, they give the weights of a plain model."""
    ours = Setup(directory, "lora", lora={"rank": 3, "alpha": 6.0, "targets": ("query", "value")})
    start = ours.weights(ours.start)
    adapters = start["layers"]["attention"]["query"]["lora"]
    assert adapters["lora_a"].shape == (2, 32, 3)
    assert not adapters["lora_b"].any()
    assert abs(adapters["lora_a"]).max() <= 32**-0.5
    theirs = Torch(directory, merge_adapters(start, 2.0))
    torch = theirs.torch
    for name, weight in theirs.names.items():
        weight.requires_grad = name.startswith("classifier")
    from torch.nn.utils import parametrize

    class Adapted(torch.nn.Module):
        def __init__(self, down, up):
            super().__init__()
            self.down, self.up = (torch.nn.Parameter(torch.tensor(np.array(part))) for part in (down, up))

        def forward(self, weight):
            return weight + 2.0 * (self.down @ self.up).T

    for layer, block in enumerate(theirs.model.bert.encoder.layer):
        for name in ("query", "value"):
            lora = ours.start.params["layers"]["attention"][name]["lora"]
            target = getattr(block.attention.self, name)
            parametrize.register_parametrization(
                target, "weight", Adapted(lora["lora_a"][layer], lora["lora_b"][layer])
            )
    theirs.names = {name: p for name, p in theirs.model.named_parameters() if p.requires_grad}
    theirs.moments = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in theirs.names.items()}
    for step in range(STEPS):
        theirs.step(step, ours.rate(step))
    state = ours.train()
    merged = merge_adapters(state.params | ours.reference | {"layers": _with_adapters(ours, state)}, 2.0)
    for layer, block in enumerate(theirs.model.bert.encoder.layer):
        found = merged["layers"]["attention"]["query"]["kernel"][layer]
        expected = block.attention.self.query.weight.detach().numpy().T
        assert np.abs(expected - ours.pretrained["layers"]["attention"]["query"]["kernel"][layer]).max() > 1e-4
        np.testing.assert_allclose(found, expected, atol=2e-5)
    np.testing.assert_allclose(state.params["classifier"]["bias"], theirs.model.classifier.bias.detach(), atol=2e-5)
    trained = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    assert trained == sum(p.numel() for p in theirs.names.values())


def _with_adapters(ours, state):
    """The layers with their adapters as trained, before scaling."""
    unscaled = ours.recipe.context({**ours.hyper, "mitigation.lora.alpha": 3.0}, ours.reference)
    return weights_in_use(ours.recipe, state.params, unscaled)["layers"]
