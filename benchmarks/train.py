"""The same fine-tuning by a sequential PyTorch loop and by jaxstab, in one run on the same machine.

    python benchmarks/train.py ../shared/data/cola --seeds 8 --epochs 3 --examples 320

Same model, examples, batch size, epochs, recipe, validation every epoch, best weights kept, test predictions from best
and last weights. The loop is what a user would write: transformers, dynamic padding, one seed after another. Its seeds
cost the same each, so it may be timed on fewer of them (--torch-seeds). Prints a table and writes JSON.
"""

import argparse
import copy
import json
import platform
import tempfile
import time
from pathlib import Path

import numpy as np

TEXT = {"rte": ["sentence1", "sentence2"]}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", type=Path, help="directory with train.* and validation.*, named like its GLUE task")
    parser.add_argument("--model", default="bundled:minilm")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--torch-seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--examples", type=int, default=320)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--output", type=Path, default=None, help="JSON file")
    return parser.parse_args()


def make_settings(arguments: argparse.Namespace, directory: str) -> dict:
    return {
        "model": {"source": arguments.model},
        "task": {
            "source": str(arguments.task),
            "text": TEXT.get(arguments.task.name, ["sentence"]),
            "train_examples": arguments.examples,
        },
        "seeds": {"count": arguments.seeds},
        "train": {
            "epochs": arguments.epochs,
            "batch_size": arguments.batch_size,
            "learning_rate": arguments.learning_rate,
            "precision": arguments.precision,
        },
        "output": {"dir": f"{directory}/run"},
    }


def time_jaxstab(settings: dict) -> dict:
    import jaxstab

    run = jaxstab.run(settings)
    seeds = len(run.seeds)
    seconds, compilation = run.info["wall_seconds"], run.info["compile_seconds"]
    return {
        "seconds_per_seed": seconds / seeds,
        "seconds_per_seed_without_compilation": (seconds - compilation) / seeds,
        "compile_seconds": compilation,
        "mean_score": float(run.scores.mean()),
        "group_size": run.info["group_size"],
        "seeds": seeds,
    }


def time_torch(settings: dict, seeds: int) -> dict:
    """A sequential loop over seeds; loading the model and tokenising count, as they do for jaxstab."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_linear_schedule_with_warmup
    from transformers.utils import logging

    from jaxstab.config import make_config
    from jaxstab.data.task import load_task
    from jaxstab.models.checkpoint import resolve_model

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    config = make_config(settings)
    task, train = load_task(config.task), config.train
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    low = train.precision == "bfloat16"
    started = time.perf_counter()
    directory = resolve_model(config.model)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    splits = {}
    for name in ("train", "validation", "test"):
        split = getattr(task, name)
        encoded = tokenizer(*(list(t) for t in split.texts), truncation=True, max_length=config.task.max_length)
        rows = [dict(zip(encoded.keys(), values, strict=True)) for values in zip(*encoded.values(), strict=True)]
        splits[name] = [{**row, "labels": int(label)} for row, label in zip(rows, split.labels, strict=True)]

    def batches(rows: list, size: int, shuffle: bool) -> torch.utils.data.DataLoader:
        def collate(some: list) -> dict:
            padded = tokenizer.pad(some, return_tensors="pt")
            return {name: value.to(device) for name, value in padded.items()}

        return torch.utils.data.DataLoader(rows, batch_size=size, shuffle=shuffle, collate_fn=collate)

    def logits_of(model: torch.nn.Module, rows: list) -> np.ndarray:
        model.eval()
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=low):
            return np.concatenate([model(**b).logits.float().cpu().numpy() for b in batches(rows, 32, False)])

    scores = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        model = AutoModelForSequenceClassification.from_pretrained(directory, num_labels=len(task.classes)).to(device)
        plain = [p for n, p in model.named_parameters() if n.endswith("bias") or "LayerNorm" in n]
        decayed = [p for n, p in model.named_parameters() if not (n.endswith("bias") or "LayerNorm" in n)]
        groups = [{"params": decayed, "weight_decay": train.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=train.learning_rate, fused=True)
        loader = batches(splits["train"], train.batch_size, True)
        total = len(loader) * train.epochs
        schedule = get_linear_schedule_with_warmup(optimizer, int(train.warmup * total), total)
        best, best_score = None, -1.0
        for _ in range(train.epochs):
            model.train()
            for batch in loader:
                with torch.autocast(device.type, torch.bfloat16, enabled=low):
                    loss = model(**batch).loss
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), train.clip_norm)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            score = (logits_of(model, splits["validation"]).argmax(-1) == task.validation.labels).mean()
            if score > best_score:
                best, best_score = copy.deepcopy(model.state_dict()), score
        logits_of(model, splits["test"])
        model.load_state_dict(best)
        scores.append((logits_of(model, splits["test"]).argmax(-1) == task.test.labels).mean())
    seconds = (time.perf_counter() - started) / seeds
    return {"seconds_per_seed": seconds, "mean_score": float(np.mean(scores)), "seeds": seeds}


def describe_machine() -> dict:
    import jax
    import torch

    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    return {
        "cpu": cpu,
        "threads": torch.get_num_threads(),
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def main() -> None:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as directory:
        settings = make_settings(arguments, directory)
        torch_loop = time_torch(settings, arguments.torch_seeds)
        ours = time_jaxstab(settings)
    ratio = torch_loop["seconds_per_seed"] / ours["seconds_per_seed"]
    ratio_without = torch_loop["seconds_per_seed"] / ours["seconds_per_seed_without_compilation"]
    result = {
        "task": arguments.task.name,
        **{name: vars(arguments)[name] for name in ("model", "epochs", "examples", "batch_size", "precision")},
        "machine": describe_machine(),
        "torch_loop": torch_loop,
        "jaxstab": ours,
        "ratio": ratio,
        "ratio_without_compilation": ratio_without,
    }
    print(f"{arguments.task.name}, {arguments.examples} examples, {arguments.epochs} epochs, {arguments.precision}")
    print(f"{'':36}{'seconds per seed':>18}{'mean accuracy':>15}")
    print(
        f"{'PyTorch loop, one seed at a time':36}{torch_loop['seconds_per_seed']:18.2f}{torch_loop['mean_score']:15.3f}"
    )
    print(f"{'jaxstab, with compilation':36}{ours['seconds_per_seed']:18.2f}{ours['mean_score']:15.3f}")
    print(f"{'jaxstab, without compilation':36}{ours['seconds_per_seed_without_compilation']:18.2f}")
    print(f"ratio {ratio:.2f} with compilation, {ratio_without:.2f} without (above 1: jaxstab is faster)")
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
