"""Checks for leaks over a grid of many runs in one process: memory, open files, the cache of compiled programs.

python benchmarks/soak.py --runs 200
"""

import argparse
import os
import sys
import tempfile
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))


def main() -> None:
    """Trains a tiny random model with many learning rates, and prints a row at intervals."""
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

        def row(done: int) -> None:
            compiled = sum(file.stat().st_size for file in (directory / "compiled").rglob("*")) / 1e6
            memory = process.memory_info().rss / 1e6
            print(f"| {done} | {memory:.0f} | {process.num_fds()} | {compiled:.1f} |", flush=True)

        def watch() -> None:
            shown = 0
            while not ended.wait(0.2):
                done = len(list((directory / "runs").glob("*/measures.json")))
                if done >= shown + max(1, runs // 10) or (done and not shown):
                    row(done)
                    shown = done

        ended = threading.Event()
        print("| runs measured | memory (MB) | open files | compiled programs (MB) |\n|---|---|---|---|")
        row(0)
        watcher = threading.Thread(target=watch)
        watcher.start()
        config = {
            "model": {"source": str(model)},
            "task": {"source": str(task), "text": ["sentence"], "max_length": 16},
            "seeds": {"count": 2, "group_size": 2},
            "train": {"epochs": 1, "batch_size": 8},
            "grid": {"train.learning_rate": [1e-5 * (1 + number) for number in range(runs)]},
            "output": {"dir": str(directory / "runs")},
        }
        jaxstab.run_grid(config)
        ended.set()
        watcher.join()
        row(runs)


if __name__ == "__main__":
    main()
