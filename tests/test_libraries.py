"""What libraries print is not seen, and what they raise is a whole sentence with a remedy."""

import logging
import subprocess
import sys
import warnings

import huggingface_hub
import pytest
from datasets.exceptions import DatasetNotFoundError
from datasets.utils.logging import get_logger
from huggingface_hub import errors

from jaxstab import libraries
from jaxstab.config import ModelConfig
from jaxstab.data.sources import load_splits
from jaxstab.errors import InputError
from jaxstab.models.pretrained import resolve_model


class _Response:
    headers: dict = {}  # noqa: RUF012
    request = None


def _http(kind):
    return kind("401 Client Error. (Request ID: x)\n\nNo access.", response=_Response())


def _caused(error, cause):
    error.__cause__ = cause
    return error


CASES = [
    (_http(errors.GatedRepoError), "access to it is restricted; accept its conditions at https://huggingface.co/a/b"),
    (DatasetNotFoundError("Dataset 'a/b' is a gated dataset on the Hub."), "access to it is restricted"),
    (_http(errors.RevisionNotFoundError), "the hub has no such revision"),
    (_http(errors.RepositoryNotFoundError), "the hub has none of this name"),
    (errors.OfflineModeIsEnabled("no"), "HF_HUB_OFFLINE forbids to download it"),
    (_caused(errors.LocalEntryNotFoundError("a. " * 200), ConnectionError("b")), "the hub cannot be reached"),
    (errors.HFValidationError("Repo id must be"), "write hub:OWNER/NAME"),
    (ValueError("x" * 500 + ".\n\nmore"), "cannot be downloaded: " + "x" * 500),
    (ValueError(), "cannot be downloaded: ValueError"),
]


@pytest.mark.parametrize(("error", "message"), CASES)
def test_errors_of_the_hub_are_whole_sentences(error, message, monkeypatch):
    def download(*_, **__):
        raise error

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(InputError) as failure:
        resolve_model(ModelConfig("hub:a/b"))
    assert message in str(failure.value)
    assert str(failure.value).startswith("hub:a/b: cannot be downloaded: ")
    assert "\n" not in str(failure.value)


def test_a_data_set_that_is_not_there_is_refused_at_once(monkeypatch):
    asked = []

    def info(self, name, timeout):
        asked.append(name)
        raise _http(errors.RepositoryNotFoundError)

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", info)
    with pytest.raises(InputError, match="hub:no/such/part: cannot be read: the hub has none of this name"):
        load_splits("hub:no/such/part")
    assert asked == ["no/such"]


def test_libraries_are_quiet_and_have_their_levels_back(capfd):
    logger = get_logger("datasets.builder")
    level = logging.getLogger("datasets").level
    with libraries.quiet():
        logger.error("Failed to read file")
        warnings.warn("slow", stacklevel=1)
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("datasets").level == level


@pytest.mark.parametrize(
    ("owner", "hidden"), [("sys.argv = ['jaxstab', 'run', {config!r}]; main()", True), ("", False)]
)
def test_torch_is_not_imported_by_our_own_process_and_there_for_others(
    owner, hidden, checkpoint, task_directory, tmp_path
):
    pytest.importorskip("torch")
    config = tmp_path / "config.toml"
    config.write_text(
        f'[model]\nsource = "{checkpoint}"\n[task]\nsource = "{task_directory}"\ntext = ["sentence"]\n'
        f'[output]\ndir = "{tmp_path / "run"}"\n[seeds]\ncount = 1\n[train]\nepochs = 1\n'
    )
    lines = (
        "import sys; from jaxstab import libraries; from jaxstab.cli import main",
        owner.format(config=str(config)),
        "libraries.import_for_texts(); from transformers.utils import is_torch_available",
        "print(is_torch_available(), 'torch' in sys.modules, file=sys.stderr)",
    )
    program = "\n".join(lines)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stderr.split("\n")[-2] == ("False False" if hidden else "True True")
