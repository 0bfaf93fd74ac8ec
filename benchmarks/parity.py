"""How far jaxstab's models are from PyTorch transformers: python benchmarks/parity.py [FAMILY ...].

Prints a table in Markdown: for a tiny random model of each family, the largest absolute difference in float32 of logits
and of all hidden states, with texts of different lengths that share rows, and again with a row for each. Needs torch.
"""

import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "golden")]

from make_golden import make_inputs, run_torch  # noqa: E402
from tiny import DECODER_SIZES, FAMILY_SIZES, write_checkpoint  # noqa: E402

from jaxstab import libraries  # noqa: E402
from jaxstab.config import ModelConfig  # noqa: E402
from jaxstab.data.batches import Examples, make_batch, pack  # noqa: E402
from jaxstab.models.families import apply, make_classifier  # noqa: E402
from jaxstab.models.pretrained import load_encoder_config, load_pretrained  # noqa: E402

CLASSES = 3
SIZES = {
    name: sizes for name, sizes in (FAMILY_SIZES | DECODER_SIZES).items() if name != "bert"
}  # head: see make_golden


def differences(directory: Path) -> list[float]:
    """Largest differences of logits and of hidden states, packed and then not."""
    config = load_encoder_config(directory, CLASSES, ModelConfig(source=""), None)
    params = load_pretrained(directory, config).params
    inputs = make_inputs(config.vocab_size)
    with libraries.quiet():
        expected = run_torch(directory, inputs, CLASSES)
    count, width = inputs["input_ids"].shape
    labels = np.zeros(count, np.int32)
    examples = Examples(inputs["input_ids"], inputs["token_type_ids"], inputs["lengths"], labels)
    packed = pack(np.arange(count)[None], inputs["lengths"], width)
    found = []
    for starts, rows in ((packed.starts[0], int(packed.rows[0])), (width * np.arange(count), count)):
        batch = make_batch(examples, np.arange(count), starts, rows)
        outputs = jax.jit(apply, static_argnums=(0, 4))(make_classifier(config)[0], params, batch, None, True)
        found += [float(np.abs(getattr(outputs, name) - expected[name]).max()) for name in ("logits", "hidden_states")]
    return found


def main() -> None:
    """Prints a row for each family."""
    print("| family | logits | hidden states | logits, a row each | hidden states, a row each |")
    print("|---|---|---|---|---|")
    for name in sys.argv[1:] or SIZES:
        with tempfile.TemporaryDirectory() as directory:
            found = differences(write_checkpoint(Path(directory), SIZES[name], classes=CLASSES))
        print(f"| {name} | {' | '.join(f'{one:.1e}' for one in found)} |", flush=True)


if __name__ == "__main__":
    main()
