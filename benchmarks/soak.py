"""Many runs in one process: does anything grow? Memory, open files, the cache of compiled programs.

python benchmarks/soak.py --runs 200
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))


def main() -> None:
    """Trains a tiny random model again and again, with another learning rate each time; prints a row now and then."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        os.environ["XDG_CACHE_HOME"] = str(directory / "cache")
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(directory / "compiled")
        import psutil
        from tiny import write_checkpoint, write_task

        import jaxstab

        for part in ("model", "task"):
            (directory / part).mkdir()
        model, task = write_checkpoint(directory / "model"), write_task(directory / "task")
        process = psutil.Process()
        print("| runs | memory (MB) | open files | compiled programs (MB) |\n|---|---|---|---|")
        for number in range(runs + 1):
            if number % max(1, runs // 10) == 0 or number == 1:
                compiled = sum(file.stat().st_size for file in (directory / "compiled").rglob("*")) / 1e6
                memory = process.memory_info().rss / 1e6
                print(f"| {number} | {memory:.0f} | {process.num_fds()} | {compiled:.1f} |", flush=True)
            jaxstab.run(
                {
                    "model": {"source": str(model)},
                    "task": {"source": str(task), "text": ["sentence"], "max_length": 16},
                    "seeds": {"count": 2, "group_size": 2},
                    "train": {"epochs": 1, "batch_size": 8, "learning_rate": 1e-3 * (1 + number)},
                    "output": {"dir": str(directory / "runs" / str(number))},
                }
            )


if __name__ == "__main__":
    main()
