"""Other libraries: they print nothing on their own, their errors become one sentence of ours, and PyTorch stays out."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

TALKATIVE = ("datasets", "fsspec", "huggingface_hub", "transformers")

own_process = False  # whether nobody else in this process may want PyTorch; the command line says so


def import_for_texts() -> None:
    """Imports what loading and tokenising texts need, which takes seconds.

    transformers imports PyTorch wherever it is installed, which takes one to ten seconds, though tokenizers do not need
    it. It looks for PyTorch once, so that must not be hidden in a process whose owner may want a PyTorch model later.
    """
    # Turns off the advice to install PyTorch.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    hidden = own_process and "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]  # Python's way to say that there is no such module
    try:
        import datasets  # noqa: F401
        from transformers import AutoTokenizer  # noqa: F401
    finally:
        if hidden:
            del sys.modules["torch"]


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps libraries from printing lines, warnings and progress bars; what matters is in the errors they raise."""
    import datasets

    loggers = [logging.getLogger(name) for name in TALKATIVE]
    levels = [one.level for one in loggers]
    datasets.disable_progress_bars()
    for one in loggers:
        one.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
        datasets.enable_progress_bars()


def reason(error: BaseException) -> str:
    """Returns what an error of another library says, whole: its first paragraph in one line, or else its type."""
    return " ".join(str(error).strip().split("\n\n")[0].split()).rstrip(".") or type(error).__name__


def hub_reason(error: BaseException, name: str) -> str:
    """Returns why a model or data set of the hub cannot be used, and the remedy.

    Args:
        error: of huggingface_hub or datasets, which have other types in other versions: their names are what stays.
        name: of the repository, `owner/name`.
    """
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    kinds = {kind.__name__ for one in chain for kind in type(one).__mro__}
    said = " ".join(map(str, chain))
    if "GatedRepoError" in kinds or "gated dataset" in said:
        return (
            f"access to it is restricted; accept its conditions at https://huggingface.co/{name} and log in with: "
            "hf auth login"
        )
    if "RevisionNotFoundError" in kinds:
        return "the hub has no such revision of it; model.revision is a branch, a tag or a commit"
    if "RepositoryNotFoundError" in kinds or "DatasetNotFoundError" in kinds:
        return "the hub has none of this name, or it is private; check the name, or log in with: hf auth login"
    if "OfflineModeIsEnabled" in kinds or os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "TRUE", "YES", "ON"):
        return "it is not on this machine, and HF_HUB_OFFLINE forbids to download it; unset HF_HUB_OFFLINE"
    if kinds & {"ConnectError", "ConnectionError", "TimeoutException", "Timeout"} or "Couldn't reach" in said:
        return "it is not on this machine, and the hub cannot be reached; check the connection, or give a local path"
    if "HFValidationError" in kinds:
        return "this is no name of the hub; write hub:OWNER/NAME"
    return reason(error)
