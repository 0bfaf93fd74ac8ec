"""Makes a task like MRPC from STS-B, for machines that have STS-B's files and no network.

    python benchmarks/mrpc_like.py ../shared/data/stsb /tmp/mrpc-like
    python benchmarks/train.py /tmp/mrpc-like

Rows 2,450 to 3,449 of STS-B's training split are its MSRpar pairs, drawn from the Microsoft Research Paraphrase Corpus,
which is also MRPC's source: two news sentences, 50 tokens a pair on average. MRPC asks whether they say the same. Here
that is a score of 4 or more of 5, which STS-B defines as equivalent but for unimportant details (Cer et al., 2017).
Every fifth pair is for validation.
"""

import argparse
import json
from pathlib import Path

MSRPAR = slice(2450, 3450)
EQUIVALENT = 4


def make_task(source: Path, target: Path) -> None:
    lines = (source / "train.jsonl").read_text(encoding="utf-8").splitlines()[MSRPAR]
    rows = [json.loads(line) for line in lines]
    pairs = [
        {"sentence1": row["sentence1"], "sentence2": row["sentence2"], "label": int(row["score"] >= EQUIVALENT)}
        for row in rows
    ]
    validation = pairs[::5]
    train = [pair for number, pair in enumerate(pairs) if number % 5]
    target.mkdir(parents=True, exist_ok=True)
    for name, split in (("train", train), ("validation", validation)):
        text = "".join(json.dumps(pair) + "\n" for pair in split)
        (target / f"{name}.jsonl").write_text(text, encoding="utf-8")
        print(f"{target / name}.jsonl: {len(split)} pairs, {sum(pair['label'] for pair in split)} equivalent")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="STS-B's directory, with train.jsonl in the order of GLUE")
    parser.add_argument("target", type=Path, help="the directory to make")
    arguments = parser.parse_args()
    make_task(arguments.source, arguments.target)


if __name__ == "__main__":
    main()
