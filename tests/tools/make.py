"""Makes the directories beside this file: what other tools leave, in the form in which they leave it.

    pip install lm_eval accelerate wandb
    python tests/tools/make.py    # or only one of lm_eval, trainer, wandb; about two minutes on a CPU, without network

lm-evaluation-harness 0.4.13 evaluates three tiny random language models, transformers 5.24 fine-tunes a tiny random
BERT with three seeds, and wandb 0.31 logs offline. Kept is what jaxstab reads: no weights, and of the results of
lm-evaluation-harness neither a description of the machine nor the tasks' configs. Nothing else is changed.

`wandb/runs.csv` and `wandb/chart.csv` are not made here, because only the web page of Weights & Biases exports them:
they are typed in its layout.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path += [str(HERE.parent), str(HERE.parents[1])]
SEEDS = (1, 2, 3)
COLOURS, SIZES = ["blue", "green", "red"], ["big", "small", "fast", "slow"]
WORDS = ["[UNK]", "[EOS]", "the", "sky", "grass", "is", *COLOURS, *SIZES, "cat", "dog", "a"]
SUBJECTS, ADJECTIVES = ("the sky", "grass", "the cat", "a dog"), COLOURS + SIZES

TASK = """\
task: {name}
output_type: {output_type}
dataset_path: json
dataset_kwargs: {{data_files: {name}.jsonl}}
test_split: train
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
"""
CHOICES = (
    TASK
    + """\
doc_to_choice: "{{{{choices}}}}"
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
"""
)
FREE = (
    TASK
    + """\
generation_kwargs: {{until: ["\\n"], max_gen_toks: 2}}
filter_list:
  - {{name: first-word, filter: [{{function: regex, regex_pattern: "(\\\\w+)"}}, {{function: take_first}}]}}
  - {{name: last-word, filter: [{{function: regex, regex_pattern: "(\\\\w+)$"}}, {{function: take_first}}]}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
"""
)


def write_lines(file: Path, rows: list[dict]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def make_lm_eval() -> None:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", eos_token="[EOS]", pad_token="[EOS]")
    sizes = {"vocab_size": len(WORDS), "n_positions": 64, "n_embd": 16, "n_layer": 1, "n_head": 2}
    for seed in SEEDS:
        torch.manual_seed(seed)
        config = GPT2Config(**sizes, initializer_range=1.0, bos_token_id=1, eos_token_id=1)
        GPT2LMHeadModel(config).save_pretrained(f"models/seed-{seed}")
        tokenizer.save_pretrained(f"models/seed-{seed}")
    rng = random.Random(0)
    questions = [f"{rng.choice(SUBJECTS)} is" for _ in range(6)]
    of_three = [
        {"question": one, "choices": rng.sample(ADJECTIVES, 3), "answer": rng.randrange(3)} for one in questions
    ]
    by_text = [{"question": one, "choices": rng.sample(ADJECTIVES, 2 + i % 3)} for i, one in enumerate(questions)]
    write_lines(Path("colours.jsonl"), of_three)
    write_lines(Path("my_words.jsonl"), [{**one, "answer": rng.choice(one["choices"])} for one in by_text])
    write_lines(Path("free.jsonl"), [{"question": one, "answer": rng.choice(("dog", "slow"))} for one in questions])
    Path("colours.yaml").write_text(CHOICES.format(name="colours", output_type="multiple_choice"))
    Path("my_words.yaml").write_text(CHOICES.format(name="my_words", output_type="multiple_choice"))
    Path("free.yaml").write_text(FREE.format(name="free", output_type="generate_until"))
    for seed in SEEDS:
        command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--device", "cpu", "--log_samples"]
        command += ["--model_args", f"pretrained=models/seed-{seed}", "--output_path", "lm_eval", "--include_path", "."]
        subprocess.run([*command, "--tasks", "colours,my_words,free"], check=True)
    for file in Path("lm_eval").rglob("results_*.json"):
        content = json.loads(file.read_text())
        kept = ("results", "higher_is_better", "config", "lm_eval_version")
        file.write_text(json.dumps({key: content[key] for key in kept}, indent=2) + "\n")


def make_trainer() -> None:
    from datasets import Dataset
    from tiny import make_rows, write_checkpoint
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    model_path, names = str(write_checkpoint(Path("model"))), ["negative", "positive"]
    tokenizer = AutoTokenizer.from_pretrained(model_path)

    def split(count: int, seed: int) -> Dataset:
        rows = [{"sentence": row["sentence"], "label": row["label"]} for row in make_rows(count, seed)]
        return Dataset.from_list(rows).map(lambda row: tokenizer(row["sentence"]))

    def accuracy(found) -> dict[str, float]:
        return {"accuracy": float((found.predictions.argmax(1) == found.label_ids).mean())}

    train, validation, test = split(44, 0), split(16, 1), split(20, 2)
    for seed in SEEDS:
        set_seed(seed)
        model = AutoModelForSequenceClassification.from_pretrained(
            model_path, id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)}
        )
        arguments = TrainingArguments(
            output_dir=f"trainer/seed-{seed}",
            seed=seed,
            num_train_epochs=12,
            per_device_train_batch_size=8,
            learning_rate=1e-3,
            eval_strategy="steps",
            eval_steps=18,
            logging_strategy="steps",
            logging_steps=18,
            save_strategy="steps",
            save_steps=18,
            save_total_limit=1,
            load_best_model_at_end=True,
            metric_for_best_model="accuracy",
            report_to="none",
            use_cpu=True,
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=train,
            eval_dataset=validation,
            compute_metrics=accuracy,
            processing_class=tokenizer,
            data_collator=DataCollatorWithPadding(tokenizer),
        )
        # The end is that of Hugging Face's run_classification.py.
        metrics = trainer.train().metrics
        trainer.save_model()
        trainer.save_metrics("train", metrics)
        trainer.save_state()
        trainer.save_metrics("eval", trainer.evaluate())
        found = trainer.predict(test, metric_key_prefix="predict")
        trainer.save_metrics("predict", found.metrics)
        rows = [f"{i}\t{names[c]}\n" for i, c in enumerate(found.predictions.argmax(1))]
        Path(f"trainer/seed-{seed}/predict_results.txt").write_text("".join(["index\tprediction\n", *rows]))
    write_lines(Path("trainer/test.jsonl"), make_rows(20, 2))


def make_wandb() -> None:
    import wandb

    for seed in SEEDS:
        rng = random.Random(seed)
        with wandb.init(project="tiny", name=f"seed-{seed}", mode="offline", config={"seed": seed}) as run:
            for _ in range(2):
                table = wandb.Table(columns=["seed", "id", "text", "label", "prediction"])
                for i in range(8):
                    right, wrong = ("good", "bad") if i % 2 else ("bad", "good")
                    table.add_data(seed, i, f"text {i}", right, right if rng.random() < 0.7 else wrong)
                run.log({"test/predictions": table})


def copy(tool: str) -> None:
    """Keeps what jaxstab reads."""
    for old in (HERE / "wandb").glob("offline-run-*") if tool == "wandb" else [HERE / tool]:
        shutil.rmtree(old, ignore_errors=True)
    for file in sorted(Path(tool).rglob("*")):
        kept = file.suffix in (".jsonl", ".txt", ".json") and "tokenizer" not in file.name
        if file.is_file() and kept and file.name != "requirements.txt":
            (HERE / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, HERE / file)


def main() -> None:
    os.environ |= {"HF_HUB_OFFLINE": "1", "WANDB_SILENT": "true", "TOKENIZERS_PARALLELISM": "false"}
    makers = {"lm_eval": make_lm_eval, "trainer": make_trainer, "wandb": make_wandb}
    with tempfile.TemporaryDirectory() as directory:
        os.environ["HF_DATASETS_CACHE"] = f"{directory}/cache"
        os.chdir(directory)
        for tool in sys.argv[1:] or makers:
            makers[tool]()
            copy(tool)


if __name__ == "__main__":
    main()
