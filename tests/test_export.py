"""Exported models load in PyTorch transformers, for every family and for methods that train part of the weights."""

import inspect

import numpy as np
import pytest
from tiny import DECODER_SIZES, FAMILY_SIZES, write_checkpoint

import jaxstab
from jaxstab import cli
from jaxstab.errors import InputError

pytestmark = pytest.mark.optimiser


def _run(settings, keep="best", **changes):
    train = {"epochs": 1, "batch_size": 8, "learning_rate": 1e-3, "weight_decay": 0.5}
    output = {**settings["output"], "keep_weights": keep}
    return jaxstab.run({**settings, "seeds": {"count": 2}, "train": train, "output": output, **changes})


def _assert_same_logits_in_pytorch(directory, run, expected):
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model, report = AutoModelForSequenceClassification.from_pretrained(directory, output_loading_info=True)
    assert not any(report.values()), report
    assert [model.config.id2label[i] for i in range(2)] == list(run.info.classes)
    tokens = AutoTokenizer.from_pretrained(directory)(
        list(run.texts.text), truncation=True, max_length=16, padding=True, return_tensors="pt"
    )
    known = inspect.signature(model.forward).parameters  # older tokenizers return segments even for models without them
    with torch.no_grad():
        logits = model.eval()(**{name: value for name, value in tokens.items() if name in known}).logits.numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def _when(family):
    """How rarely a family is tested; some have the same weights as another but for their names."""
    if family in ("bert", "llama"):
        return []
    return [
        pytest.mark.slow,
        *[pytest.mark.release] * (family in ("electra", "xlm-roberta", "mistral", "qwen3", "gemma")),
    ]


@pytest.mark.parametrize("family", [pytest.param(one, marks=_when(one)) for one in FAMILY_SIZES | DECODER_SIZES])
def test_every_family(family, settings, tmp_path):
    directory = write_checkpoint(tmp_path / "model", (FAMILY_SIZES | DECODER_SIZES)[family])
    run = _run({**settings, "model": {"source": str(directory)}})
    exported = jaxstab.export(run, seed=1, to=tmp_path / "exported")
    _assert_same_logits_in_pytorch(exported, run, run.logits[1])


@pytest.mark.parametrize(
    "mitigation",
    [
        {"method": "lora", "lora": {"rank": 2, "targets": ["query", "intermediate"]}},
        pytest.param({"method": "freeze", "freeze": {"layers": 1}}, marks=pytest.mark.slow),
        pytest.param({"methods": ["bitfit", "ema"]}, marks=pytest.mark.slow),
        pytest.param({"methods": ["llrd", "wd_pre", "reinit"], "reinit": {"layers": 1}}, marks=pytest.mark.slow),
    ],
    ids=lambda mitigation: mitigation.get("method") or "+".join(mitigation["methods"]),
)
def test_methods_that_train_a_part_and_the_last_weights(mitigation, settings, tmp_path):
    run = _run(settings, keep="final", mitigation=mitigation)
    exported = jaxstab.export(run, seed=0, to=tmp_path / "exported")
    _assert_same_logits_in_pytorch(exported, run, run.final_logits[0])


@pytest.mark.slow
def test_the_first_layers_only(settings, tmp_path):
    run = _run({**settings, "model": {**settings["model"], "layers": 1}})
    exported = jaxstab.export(run, seed=0, to=tmp_path / "exported")
    _assert_same_logits_in_pytorch(exported, run, run.logits[0])


def test_what_cannot_be_exported(settings, tmp_path, capsys):
    run = _run(settings, keep=[1])
    path, target = str(run.path), str(tmp_path / "exported")
    for arguments, message in {
        ("--seed", "7"): "has no seed 7; its seeds are 0, 1",
        ("--seed", "0"): "has not saved the weights of seed 0",
    }.items():
        assert cli.main(["export", path, *arguments, "--to", target]) == 2
        assert message in capsys.readouterr().err
    assert cli.main(["export", path, "--seed", "1", "--to", target]) == 0
    assert capsys.readouterr().out.strip() == target
    assert cli.main(["export", path, "--seed", "1", "--to", target]) == 2
    assert "exists and is not empty" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of transformers, about what peft calls
@pytest.mark.parametrize(
    ("family", "targets"),
    [
        ("bert", ["query", "output"]),
        ("llama", ["query", "value"]),
        pytest.param("gpt2", ["query", "value"], marks=pytest.mark.slow),
    ],
)
def test_adapters_load_in_peft(family, targets, settings, tmp_path, capsys):
    peft, torch = pytest.importorskip("peft"), pytest.importorskip("torch")
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    base = write_checkpoint(tmp_path / "model", (FAMILY_SIZES | DECODER_SIZES)[family])
    lora = {"rank": 2, "alpha": 6.0, "targets": targets}
    run = _run({**settings, "model": {"source": str(base)}}, mitigation={"method": "lora", "lora": lora})
    target = tmp_path / "adapter"
    assert cli.main(["export", str(run.path), "--seed", "1", "--adapter", "--to", str(target)]) == 0
    tokens = AutoTokenizer.from_pretrained(target)(
        list(run.texts.text), truncation=True, max_length=16, padding=True, return_tensors="pt"
    )
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
    model = peft.PeftModel.from_pretrained(model, target).eval()
    with torch.no_grad():
        found = model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).logits.numpy()
    np.testing.assert_allclose(found, run.logits[1], atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "was not trained with lora"),
        ({"mitigation": {"method": "lora"}, "model": {"layers": 1}}, r"model.layers = 1 cut the model"),
    ],
)
def test_runs_without_an_adapter(changes, message, settings, tmp_path):
    run = _run({**settings, **changes, "model": {**settings["model"], **changes.get("model", {})}})
    with pytest.raises(InputError, match=message):
        jaxstab.export(run, seed=1, to=tmp_path / "adapter", adapter=True)


def test_bitfit_without_biases_is_refused(settings, tmp_path):
    base = write_checkpoint(tmp_path / "model", DECODER_SIZES["llama"])
    with pytest.raises(InputError, match="bitfit trains biases, and this model has none"):
        _run({**settings, "model": {"source": str(base)}}, mitigation={"method": "bitfit"})
