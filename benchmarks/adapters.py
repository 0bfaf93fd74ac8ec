"""A step of LoRA for each seed and its memory, against seeds at once, beside PEFT in a loop.

    python benchmarks/adapters.py ../shared/data/sst2 --output results/adapters-cpu.json
    python benchmarks/adapters.py ../shared/data/sst2 --model /tmp/bert-base --targets all    # `random_bert.py base`

All seeds share the model, which is in memory once, and on an accelerator also its products. The peer is what a user of
PEFT writes: one seed after another, float32, each batch padded to its longest example, AdamW on what is trained. Both
take the same texts, batch size and adapters. Each row is a process of its own. Steps are timed after as many to warm
up; memory is the most that the process had, with libraries and the compiler.
"""

import argparse
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

from machine import peak_bytes, text_columns, write_result
from train import alone

STEPS = 8  # timed, after as many to warm up: those of `jaxstab plan`
EXAMPLES = {"train": 256, "validation": 32}
PEFT_NAMES = {  # of our linear layers, in the models of transformers
    "query": ("q_proj", "query"),
    "key": ("k_proj", "key"),
    "value": ("v_proj", "value"),
}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", type=Path, help="directory with train.jsonl and validation.jsonl")
    parser.add_argument("--text", nargs="+", default=None, help="its text columns; known for GLUE's names")
    parser.add_argument("--model", default="bundled:smollm2")
    parser.add_argument("--at-once", nargs="+", type=int, default=[1, 2, 4], help="seeds at once")
    parser.add_argument("--targets", nargs="+", default=["query", "value"])
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--output", type=Path, default=None, help="JSON file")
    return parser.parse_args()


def make_settings(arguments: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """A config with the first examples of the task, because evaluation is not what is measured."""
    for split, count in EXAMPLES.items():
        with (arguments.task / f"{split}.jsonl").open(encoding="utf-8") as lines:
            (directory / f"{split}.jsonl").write_text("".join(islice(lines, count)), encoding="utf-8")
    text = text_columns(arguments.task, arguments.text)
    return {
        "model": {"source": arguments.model},
        "task": {"source": str(directory), "text": text, "max_length": arguments.max_length},
        "train": {"epochs": 1, "batch_size": arguments.batch_size, "learning_rate": 1e-4, "precision": "float32"},
        "mitigation": {"method": "lora", "lora": {"rank": arguments.rank, "targets": arguments.targets}},
    }


def time_jaxstab(settings: dict[str, Any], at_once: int, base_precision: str) -> dict[str, float]:
    import jaxstab

    settings["model"]["base_precision"] = base_precision
    plan, estimate = jaxstab.plan({**settings, "seeds": {"count": at_once, "group_size": at_once}})
    found = {"step": estimate.step / at_once, "compilation": estimate.compilation, "peak": peak_bytes()}
    return found | {"shared": plan.fixed_bytes, "base": plan.base_bytes, "seed": plan.seed_bytes}


def time_peft(settings: dict[str, Any]) -> dict[str, float]:
    import torch
    from peft import LoraConfig, TaskType, get_peft_model
    from torch_peers import batches, load, new_model, new_optimizer

    inputs = load(settings)
    lora = inputs.config.mitigation.lora
    if inputs.tokenizer.pad_token is None:
        inputs.tokenizer.pad_token = inputs.tokenizer.eos_token
    model = new_model(inputs)
    model.config.pad_token_id = inputs.tokenizer.pad_token_id
    own = {name.rpartition(".")[2] for name, one in model.named_modules() if isinstance(one, torch.nn.Linear)}
    names = [name for target in lora.targets for name in PEFT_NAMES.get(target, (target,)) if name in own]
    targets = "all-linear" if "all" in lora.targets else names
    adapted = LoraConfig(TaskType.SEQ_CLS, r=lora.rank, lora_alpha=lora.alpha, target_modules=targets)
    model = get_peft_model(model, adapted).train()
    trained = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    optimizer, schedule = new_optimizer(inputs, trained, 2 * STEPS)
    started = 0.0
    for number, batch in enumerate(islice(batches(inputs, "train", inputs.config.train.batch_size, True), 2 * STEPS)):
        started = time.perf_counter() if number == STEPS else started
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_([value for _, value in trained], inputs.config.train.clip_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    seconds = (time.perf_counter() - started) / STEPS
    return {"step": seconds, "peak": peak_bytes(), "trained": sum(value.numel() for _, value in trained)}


def main() -> None:
    arguments = parse_arguments()
    results: dict[str, dict[str, float]] = {}
    print("| | s per seed and step | peak of the process, GB | planned: shared | planned: each seed |")
    print("|---|---|---|---|---|")

    def measure(name: str, *call: Any) -> None:
        results[name] = one = alone(*call)
        planned = [f"{one[key] / 1e9:.2f}" if key in one else "" for key in ("shared", "seed")]
        print(f"| {name} | {one['step']:.2f} | {one['peak'] / 1e9:.2f} | {planned[0]} | {planned[1]} |", flush=True)

    with tempfile.TemporaryDirectory() as directory:
        settings = make_settings(arguments, Path(directory))
        if not arguments.no_peer:
            measure("PEFT, one seed after another", time_peft, settings)
        for count in arguments.at_once:
            measure(f"jaxstab, {count} at once", time_jaxstab, settings, count, "float32")
        count = max(arguments.at_once)
        measure(f"jaxstab, {count} at once, base in bfloat16", time_jaxstab, settings, count, "bfloat16")
    write_result(arguments.output, vars(arguments), results)


if __name__ == "__main__":
    main()
