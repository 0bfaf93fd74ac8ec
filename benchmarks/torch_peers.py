"""The peers: common ways to fine-tune several seeds with PyTorch and transformers.

All use the recipe of a jaxstab config: AdamW (fused) with linear warm-up, clipping, dynamic padding, validation every
epoch, a copy of the best weights, and test predictions from the best and last weights.
"""

import copy
import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_linear_schedule_with_warmup
from transformers.utils import logging

from jaxstab.config import Config, make_config
from jaxstab.data.task import Task, load_task
from jaxstab.models.pretrained import resolve_model

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass
class Inputs:
    """A config, its task and the tokenised splits."""

    config: Config
    task: Task
    tokenizer: Any
    splits: dict[str, list[dict]]

    @property
    def directory(self) -> str:
        return str(resolve_model(self.config.model))


def load(settings: dict) -> Inputs:
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    config = make_config(settings)
    task = load_task(config.task)
    tokenizer = AutoTokenizer.from_pretrained(resolve_model(config.model))
    splits = {}
    for name in ("train", "validation", "test"):
        split = getattr(task, name)
        encoded = tokenizer(*(list(t) for t in split.texts), truncation=True, max_length=config.task.max_length)
        rows = [dict(zip(encoded.keys(), values, strict=True)) for values in zip(*encoded.values(), strict=True)]
        splits[name] = [{**row, "labels": int(label)} for row, label in zip(rows, split.labels, strict=True)]
    return Inputs(config, task, tokenizer, splits)


def batches(inputs: Inputs, split: str, size: int, shuffle: bool = False) -> torch.utils.data.DataLoader:
    def collate(some: list) -> dict:
        return {name: value.to(DEVICE) for name, value in inputs.tokenizer.pad(some, return_tensors="pt").items()}

    return torch.utils.data.DataLoader(inputs.splits[split], batch_size=size, shuffle=shuffle, collate_fn=collate)


def new_model(inputs: Inputs, **options: Any) -> torch.nn.Module:
    classes = len(inputs.task.classes)
    model = AutoModelForSequenceClassification.from_pretrained(inputs.directory, num_labels=classes, **options)
    return model.to(DEVICE)


def new_optimizer(inputs: Inputs, named: list[tuple[str, torch.Tensor]], total: int) -> tuple[Any, Any]:
    train = inputs.config.train
    plain = [p for n, p in named if n.endswith("bias") or "LayerNorm" in n]
    decayed = [p for n, p in named if not (n.endswith("bias") or "LayerNorm" in n)]
    groups = [{"params": decayed, "weight_decay": train.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=train.learning_rate, fused=True)
    return optimizer, get_linear_schedule_with_warmup(optimizer, int(train.warmup * total), total)


def one_seed(inputs: Inputs, seed: int, autocast: bool = False, call: Any = None, model: Any = None) -> float:
    """Fine-tunes one seed and returns its test accuracy; `call` is the compiled `model`, if any."""
    train = inputs.config.train
    torch.manual_seed(seed)
    model = new_model(inputs) if model is None else model
    call = model if call is None else call

    def logits_of(split: str) -> np.ndarray:
        model.eval()
        with torch.no_grad(), torch.autocast(DEVICE.type, torch.bfloat16, enabled=autocast):
            return np.concatenate([call(**b).logits.float().cpu().numpy() for b in batches(inputs, split, 32)])

    def score(split: str) -> float:
        return float((logits_of(split).argmax(-1) == getattr(inputs.task, split).labels).mean())

    loader = batches(inputs, "train", train.batch_size, shuffle=True)
    optimizer, schedule = new_optimizer(inputs, list(model.named_parameters()), len(loader) * train.epochs)
    best, best_score = None, -1.0
    for _ in range(train.epochs):
        model.train()
        for batch in loader:
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=autocast):
                loss = call(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), train.clip_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        found = score("validation")
        if found > best_score:
            best, best_score = copy.deepcopy(model.state_dict()), found
    logits_of("test")
    model.load_state_dict(best)
    return score("test")


def sequential(settings: dict, seeds: int, autocast: bool = False) -> dict:
    """One seed after another; loads and tokenises once for all seeds of the config."""
    started = time.perf_counter()
    inputs = load(settings)
    preparation = time.perf_counter() - started
    started = time.perf_counter()
    scores = [one_seed(inputs, seed, autocast) for seed in range(seeds)]
    return _result(settings, time.perf_counter() - started, seeds, preparation, scores)


def compiled(settings: dict, seeds: int) -> dict:
    """One seed after another with `torch.compile`: one model compiled for dynamic shapes, with weights reset."""
    inputs = load(settings)
    model = new_model(inputs)
    call = torch.compile(model, dynamic=True)
    times, scores = [], []
    for seed in range(seeds + 1):
        started = time.perf_counter()
        torch.manual_seed(seed)
        model.load_state_dict(new_model(inputs).state_dict())
        scores.append(one_seed(inputs, seed, call=call, model=model))
        times.append(time.perf_counter() - started)
    each = float(np.mean(times[1:]))
    return _result(settings, each * seeds, seeds, times[0] - each, scores[1:])


def by_process(settings: dict, processes: int) -> dict:
    """One seed per core in parallel, each in a process with one thread."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.map(_warm, range(processes))
        started = time.perf_counter()
        scores = pool.starmap(_in_process, [(settings, seed) for seed in range(processes)], chunksize=1)
        return _result(settings, time.perf_counter() - started, processes, 0.0, scores)


def _warm(_: int) -> None:
    torch.set_num_threads(1)


def _in_process(settings: dict, seed: int) -> float:
    torch.set_num_threads(1)
    return one_seed(load(settings), seed)


def stacked(settings: dict, seeds: int) -> dict:
    """All seeds at once with `torch.func.vmap` over a stack of parameters, each step padded to its longest example."""
    started = time.perf_counter()
    inputs = load(settings)
    train, device = inputs.config.train, DEVICE
    preparation = time.perf_counter() - started
    started = time.perf_counter()
    models = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        models.append(new_model(inputs, attn_implementation="eager").train())
    base = models[0]
    params, buffers = torch.func.stack_module_state(models)
    buffers = {name: value[0] for name, value in buffers.items()}

    def outputs_of(params: dict, batch: dict) -> Any:
        # An additive mask, because transformers branches on the values of other masks, which vmap forbids.
        mask = batch["attention_mask"]
        additive = (1.0 - mask.float())[:, None, None, :].expand(-1, 1, mask.shape[-1], -1) * torch.finfo().min
        return torch.func.functional_call(base, (params, buffers), kwargs={**batch, "attention_mask": additive})

    def loss_of(params: dict, batch: dict) -> torch.Tensor:
        return outputs_of(params, batch).loss

    def logits_of_one(params: dict, batch: dict) -> torch.Tensor:
        return outputs_of(params, batch).logits

    gradient = torch.func.vmap(torch.func.grad(loss_of), in_dims=(0, 0), randomness="different")
    forward = torch.func.vmap(logits_of_one, in_dims=(0, None))

    def accuracy(params: dict, split: str) -> np.ndarray:
        base.eval()
        with torch.no_grad():
            logits = torch.cat([forward(params, b) for b in batches(inputs, split, 32)], dim=1)
        base.train()
        return (logits.argmax(-1).cpu().numpy() == getattr(inputs.task, split).labels).mean(axis=1)

    steps = -(-len(inputs.splits["train"]) // train.batch_size)
    optimizer, schedule = new_optimizer(inputs, list(params.items()), steps * train.epochs)
    best, best_scores = {n: p.detach().clone() for n, p in params.items()}, np.full(seeds, -1.0)
    for epoch in range(train.epochs):
        for batch in _stacked_batches(inputs, seeds, epoch):
            gradients = gradient({n: p.detach() for n, p in params.items()}, batch)
            norm = torch.sqrt(sum(g.flatten(1).square().sum(1) for g in gradients.values()))
            scale = torch.clamp(train.clip_norm / (norm + 1e-6), max=1.0)
            for name, value in params.items():
                value.grad = gradients[name] * scale.reshape(-1, *[1] * (value.ndim - 1))
            optimizer.step()
            schedule.step()
        found = accuracy(params, "validation")
        for i in np.flatnonzero(found > best_scores):
            best_scores[i] = found[i]
            for name, value in params.items():
                best[name][i] = value.detach()[i]
    accuracy(params, "test")
    scores = accuracy(best, "test").tolist()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return _result(settings, time.perf_counter() - started, seeds, preparation, scores)


def _stacked_batches(inputs: Inputs, seeds: int, epoch: int) -> Iterator[dict]:
    rows, size = inputs.splits["train"], inputs.config.train.batch_size
    orders = [np.random.default_rng((seed, epoch)).permutation(len(rows)) for seed in range(seeds)]
    for start in range(0, len(rows), size):
        some = [rows[i] for order in orders for i in order[start : start + size]]
        padded = inputs.tokenizer.pad(some, return_tensors="pt")
        yield {name: value.reshape(seeds, -1, *value.shape[1:]).to(DEVICE) for name, value in padded.items()}


def _result(settings: dict, seconds: float, seeds: int, preparation: float, scores: list[float]) -> dict:
    """Seconds per seed, as if all seeds of the config were trained and shared the preparation or compilation."""
    each = seconds / seeds
    return {
        "seconds_per_seed": each + preparation / settings["seeds"]["count"],
        "seconds_per_seed_without_compilation": each,
        "seeds": seeds,
        "mean_score": float(np.mean(scores)),
    }
