"""The peers: common ways to fine-tune several seeds with PyTorch and transformers.

All use the recipe of a jaxstab config: AdamW (fused) with linear warm-up, clipping, validation every epoch, a copy of
the best weights, and test predictions from the best and last weights. All but `graphs` pad each batch to its longest
example.
"""

import copy
import multiprocessing
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_linear_schedule_with_warmup
from transformers.utils import logging

from jaxstab.config import Config, make_config
from jaxstab.data.task import Task, load_task
from jaxstab.models.pretrained import resolve_model

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
IGNORED = -100  # a label that PyTorch's cross-entropy leaves out of its mean


class Trained(NamedTuple):
    """One seed: its test accuracy, and the seconds of its optimiser steps without evaluation."""

    score: float
    training: float


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
    low = config.train.precision == "tensorfloat32"
    torch.set_float32_matmul_precision("high" if low else "highest")
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


def one_seed(inputs: Inputs, seed: int, autocast: bool = False, call: Any = None, model: Any = None) -> Trained:
    """Fine-tunes one seed; `call` is the compiled `model`, if any."""
    train = inputs.config.train
    torch.manual_seed(seed)
    model = new_model(inputs) if model is None else model
    call = model if call is None else call

    def logits_of(split: str) -> np.ndarray:
        model.eval()
        with torch.no_grad(), torch.autocast(DEVICE.type, torch.bfloat16, enabled=autocast):
            return np.concatenate([call(**b).logits.float().cpu().numpy() for b in batches(inputs, split, 32)])

    loader = batches(inputs, "train", train.batch_size, shuffle=True)
    optimizer, schedule = new_optimizer(inputs, list(model.named_parameters()), len(loader) * train.epochs)

    def train_epoch() -> None:
        for batch in loader:
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=autocast):
                loss = call(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), train.clip_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()

    return _epochs(inputs, model, train_epoch, logits_of)


def one_seed_in_graphs(inputs: Inputs, splits: dict[str, dict], seed: int, model: Any, call: Any) -> Trained:
    """Fine-tunes one seed with batches of one shape, without waiting for the device within an epoch."""
    train = inputs.config.train
    rows, size = len(inputs.splits["train"]), train.batch_size
    steps = -(-rows // size)
    parameters = list(model.parameters())
    optimizer, schedule = new_optimizer(inputs, list(model.named_parameters()), steps * train.epochs)
    orders = np.random.default_rng(seed)

    def logits_of(split: str) -> np.ndarray:
        model.eval()
        count, found = len(inputs.splits[split]), []
        with torch.no_grad(), torch.autocast(DEVICE.type, torch.bfloat16):
            for batch in static_batches(splits[split], np.arange(count), 32):
                torch.compiler.cudagraph_mark_step_begin()
                found.append(call(**batch).logits.float().clone())  # the next replay overwrites what it returned
        return torch.cat(found)[:count].cpu().numpy()

    def train_epoch() -> None:
        total = torch.zeros((), device=DEVICE)
        for batch in static_batches(splits["train"], orders.permutation(rows), size):
            torch.compiler.cudagraph_mark_step_begin()
            with torch.autocast(DEVICE.type, torch.bfloat16):
                loss = call(**batch).loss
            loss.backward()
            total += loss.detach()
            torch.nn.utils.clip_grad_norm_(parameters, train.clip_norm, foreach=True)
            optimizer.step()
            schedule.step()
            # The gradients lie in the graph's own memory: they must be gone before its next replay writes there.
            optimizer.zero_grad(set_to_none=True)
        total.item()

    return _epochs(inputs, model, train_epoch, logits_of)


def _epochs(
    inputs: Inputs, model: torch.nn.Module, train_epoch: Callable[[], None], logits_of: Callable[[str], np.ndarray]
) -> Trained:
    """Trains and validates every epoch, keeps the best weights, and predicts the test split from last and best."""

    def score(split: str) -> float:
        return float((logits_of(split).argmax(-1) == getattr(inputs.task, split).labels).mean())

    best, best_score, training = None, -1.0, 0.0
    for _ in range(inputs.config.train.epochs):
        model.train()
        started = time.perf_counter()
        train_epoch()
        _wait()
        training += time.perf_counter() - started
        found = score("validation")
        if found > best_score:
            best, best_score = copy.deepcopy(model.state_dict()), found
    logits_of("test")
    model.load_state_dict(best)
    return Trained(score("test"), training)


def static_splits(inputs: Inputs) -> dict[str, dict[str, torch.Tensor]]:
    """The splits padded to two widths: the longest example of training and of evaluation."""
    longest = {name: max(len(row["input_ids"]) for row in rows) for name, rows in inputs.splits.items()}
    evaluated = max(longest["validation"], longest["test"])
    padded = {}
    for name, rows in inputs.splits.items():
        width = longest["train"] if name == "train" else evaluated
        split = inputs.tokenizer.pad(rows, padding="max_length", max_length=width, return_tensors="pt")
        padded[name] = dict(split)
    return padded


def static_batches(split: dict[str, torch.Tensor], order: np.ndarray, size: int) -> Iterator[dict[str, torch.Tensor]]:
    """Batches of one shape; the last is filled with examples that the loss ignores."""
    filled = np.full(-(-len(order) // size) * size, -1)
    filled[: len(order)] = order
    for some in torch.from_numpy(filled).split(size):
        batch = {name: value[some] for name, value in split.items()}
        batch["labels"] = batch["labels"].masked_fill(some < 0, IGNORED)
        if DEVICE.type == "cuda":
            batch = {name: value.pin_memory().to(DEVICE, non_blocking=True) for name, value in batch.items()}
        yield batch


def sequential(settings: dict, seeds: int, autocast: bool = False) -> dict:
    """One seed after another; loads and tokenises once for all seeds of the config."""
    started = time.perf_counter()
    inputs = load(settings)
    preparation = time.perf_counter() - started
    if DEVICE.type == "cuda":
        one_seed(inputs, 0, autocast)  # the first steps of a process load libraries, which is not counted
    started = time.perf_counter()
    found = [one_seed(inputs, seed, autocast) for seed in range(seeds)]
    return _result(inputs, time.perf_counter() - started, found, preparation=preparation)


def compiled(settings: dict, seeds: int) -> dict:
    """One seed after another with `torch.compile` for dynamic shapes."""
    inputs = load(settings)
    model = new_model(inputs)
    call = torch.compile(model, dynamic=True)
    return _compiled_once(inputs, seeds, model, lambda seed: one_seed(inputs, seed, call=call, model=model))


def graphs(settings: dict, seeds: int) -> dict:
    """One seed after another as an expert writes it for a GPU: CUDA graphs of one shape, in bfloat16.

    `mode="reduce-overhead"` replays a CUDA graph for each forward and backward pass; on a CPU it changes nothing.
    """
    inputs = load(settings)
    splits, model = static_splits(inputs), new_model(inputs)
    call = torch.compile(model, mode="reduce-overhead", dynamic=False)
    return _compiled_once(
        inputs, seeds, model, lambda seed: one_seed_in_graphs(inputs, splits, seed, model=model, call=call)
    )


def _compiled_once(inputs: Inputs, seeds: int, model: torch.nn.Module, one: Callable[[int], Trained]) -> dict:
    """One model, compiled during a first seed that is not counted otherwise; its weights are reset for each seed."""
    times, found = [], []
    for seed in range(seeds + 1):
        started = time.perf_counter()
        torch.manual_seed(seed)
        model.load_state_dict(new_model(inputs).state_dict())
        found.append(one(seed))
        times.append(time.perf_counter() - started)
    each = float(np.mean(times[1:]))
    return _result(inputs, each * seeds, found[1:], compilation=times[0] - each)


def by_process(settings: dict, processes: int) -> dict:
    """One seed per core in parallel, each in a process with one thread."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.map(_warm, range(processes))
        started = time.perf_counter()
        found = pool.starmap(_in_process, [(settings, seed) for seed in range(processes)], chunksize=1)
        return _result(load(settings), time.perf_counter() - started, found, at_once=processes)


def _warm(_: int) -> None:
    torch.set_num_threads(1)


def _in_process(settings: dict, seed: int) -> Trained:
    torch.set_num_threads(1)
    return one_seed(load(settings), seed)


def stacked(settings: dict, seeds: int) -> dict:
    """All seeds at once with `torch.func.vmap` over a stack of parameters, each step padded to its longest example."""
    started = time.perf_counter()
    inputs = load(settings)
    train = inputs.config.train
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
    training = 0.0
    for epoch in range(train.epochs):
        epoch_started = time.perf_counter()
        for batch in _stacked_batches(inputs, seeds, epoch):
            gradients = gradient({n: p.detach() for n, p in params.items()}, batch)
            norm = torch.sqrt(sum(g.flatten(1).square().sum(1) for g in gradients.values()))
            scale = torch.clamp(train.clip_norm / (norm + 1e-6), max=1.0)
            for name, value in params.items():
                value.grad = gradients[name] * scale.reshape(-1, *[1] * (value.ndim - 1))
            optimizer.step()
            schedule.step()
        _wait()
        training += time.perf_counter() - epoch_started
        found = accuracy(params, "validation")
        for i in np.flatnonzero(found > best_scores):
            best_scores[i] = found[i]
            for name, value in params.items():
                best[name][i] = value.detach()[i]
    accuracy(params, "test")
    scores = accuracy(best, "test").tolist()
    _wait()
    found = [Trained(score, training / seeds) for score in scores]
    return _result(inputs, time.perf_counter() - started, found, preparation=preparation)


def _stacked_batches(inputs: Inputs, seeds: int, epoch: int) -> Iterator[dict]:
    rows, size = inputs.splits["train"], inputs.config.train.batch_size
    orders = [np.random.default_rng((seed, epoch)).permutation(len(rows)) for seed in range(seeds)]
    for start in range(0, len(rows), size):
        some = [rows[i] for order in orders for i in order[start : start + size]]
        padded = inputs.tokenizer.pad(some, return_tensors="pt")
        yield {name: value.reshape(seeds, -1, *value.shape[1:]).to(DEVICE) for name, value in padded.items()}


def _wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def _result(
    inputs: Inputs,
    seconds: float,
    found: list[Trained],
    preparation: float = 0.0,
    compilation: float = 0.0,
    at_once: int = 1,
) -> dict:
    """Seconds per seed, as if all seeds of the config were trained and shared the preparation and compilation."""
    config, each = inputs.config, seconds / len(found)
    steps = config.train.epochs * -(-len(inputs.splits["train"]) // config.train.batch_size)
    return {
        "seconds_per_seed": each + (preparation + compilation) / len(config.seeds.resolve()),
        "seconds_per_seed_without_compilation": each,
        "compile_seconds": compilation,
        "step_seconds": float(np.mean([one.training for one in found])) / steps / at_once,
        "seeds": len(found),
        "mean_score": float(np.mean([one.score for one in found])),
    }
