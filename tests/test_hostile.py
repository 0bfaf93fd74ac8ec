"""Arbitrary input gives a result or a one-line error, never a traceback, and nothing in it is executed."""

import gc
import json
import pickle
import string

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.extra.numpy import arrays

import jaxstab
from jaxstab.config import TaskConfig, load_config
from jaxstab.data.task import load_task
from jaxstab.errors import InputError
from jaxstab.runs.reading import load_outputs

MANY = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
KEYS = ["model.source", "task.text", "task.metric", "seeds.count", "seeds.list", "train.epochs", "train.learning_rate"]
KEYS += [
    "mitigation.method",
    "output.dir",
    "output.keep_weights",
    "grid.train.learning_rate",
    "seeds.repeats",
    "nothing",
]
WORDS = st.text(string.printable + "äß中\u2028\x00", max_size=20)
VALUES = st.one_of(
    WORDS, st.integers().map(str), st.floats().map(str), st.sampled_from(["[]", "[1, 2]", "true", "{}", "-1"])
)


def _one_line(error):
    text = str(error)
    assert text
    assert "\n" not in " ".join(text.split())


@MANY
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4))
def test_configs_by_overrides(tmp_path, overrides):
    path = tmp_path / "config.toml"
    path.write_text('[model]\nsource = "bundled:minilm"\n[task]\nsource = "bundled:bbc-news"\n')
    arguments = [part for key, value in overrides.items() for part in (f"--{key}", value)]
    try:
        load_config(path, arguments)
    except InputError as error:
        _one_line(error)


@MANY
@given(st.binary(max_size=300))
def test_configs_of_any_bytes(tmp_path, content):
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_config(path)
    _one_line(caught.value)


CELLS = st.text(string.ascii_letters + string.digits + ' ",\t\r\n;äé中\x00<>', max_size=12)
ROWS = st.lists(st.lists(CELLS, max_size=4), max_size=8)


@pytest.fixture
def _collected():
    """Collects garbage: the datasets library leaves an unreadable file open until then."""
    yield
    gc.collect()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.usefixtures("_collected")
@MANY
@given(st.sampled_from(["csv", "tsv", "jsonl"]), ROWS, st.sampled_from(["utf-8", "utf-16", "latin-1"]), st.booleans())
def test_data_of_any_shape(tmp_path_factory, kind, rows, encoding, proper):
    directory = tmp_path_factory.mktemp("data")
    separator = "\t" if kind == "tsv" else ","
    text = "\n".join(separator.join(row) for row in rows)
    head = f"sentence{separator}label\n" if proper else ""
    content = (head + text).encode(encoding, errors="replace")
    for split in ("train", "validation"):
        (directory / f"{split}.{kind}").write_bytes(content)
    try:
        load_task(TaskConfig(source=str(directory), text=("sentence",)))
    except InputError as error:
        _one_line(error)


HEAD = "sentence,label\n"
GOOD = HEAD + "".join(f"text {i},{i % 2}\n" for i in range(20))
NULL = b'{"sentence": null, "label": 1}\n'
LINES = b'{"sentence": "a", "label": 0}\n{"sentence": "b", "label": 1}\n'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.csv", GOOD.replace("\n", "\r").encode()),
        ("train.csv", GOOD.replace("\n", "\r\n").encode()),
        ("train.csv", ("\ufeff" + GOOD).encode()),
        ("train.csv", (GOOD + "x" * 3_000_000 + ",1\n").encode()),
        ("train.tsv", GOOD.replace(",", "\t").replace("text", '"text').encode()),
    ],
    ids=["cr", "crlf", "bom", "huge field", "bare quotes"],
)
def test_odd_but_good_data(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    (tmp_path / name.replace("train", "validation")).write_bytes(content)
    task = load_task(TaskConfig(source=str(tmp_path), text=("sentence",)))
    assert task.classes == ("0", "1")
    assert len(task.train.labels) >= 20
    assert task.train.texts[0][1].endswith("text 1")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.usefixtures("_collected")
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.csv", (GOOD + "a,b,c,d\n").encode(), "line 22 has 4 columns, the header 2"),
        ("train.csv", (GOOD + "text\n").encode(), "line 22: 1 of 21 rows cannot be used: column 'label' is empty"),
        ("train.csv", GOOD.replace("sentence,", "sentence,sentence,").encode(), "column 'sentence' is there twice"),
        ("train.csv", (GOOD + "caf\xe9,1\n").encode("latin-1"), "is no UTF-8, perhaps LATIN1; save it as UTF-8"),
        ("train.csv", (GOOD + "text,\n").encode(), "line 22: 1 of 21 rows cannot be used: column 'label' is empty"),
        ("train.jsonl", LINES + b'{"sentence": "c"}\n', "line 3: 1 of 3 rows cannot be used: column 'label' is empty"),
        ("train.jsonl", LINES + NULL, "line 3: 1 of 3 rows cannot be used: column 'sentence' is empty"),
        ("train.jsonl", b'{"sentence": "a", "sentence": "b", "label": 0}\n' * 9, "specified twice"),
        ("train.jsonl", b'[1, 2]\n"x"\n', "train.jsonl: cannot be read"),
        ("train.parquet", b"PAR1" * 5, "train.parquet: cannot be read"),
    ],
)
def test_bad_data_are_named_with_file_or_row(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    (tmp_path / name.replace("train", "validation")).write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_task(TaskConfig(source=str(tmp_path), text=("sentence",)))
    assert str(tmp_path) in str(caught.value)
    assert message in str(caught.value)


@MANY
@given(st.binary(max_size=400), st.sampled_from(["npz", "npy"]))
def test_array_files_of_any_bytes(tmp_path, content, suffix):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_outputs(path)
    _one_line(caught.value)


@MANY
@given(
    st.dictionaries(
        st.sampled_from(["logits", "predictions", "labels", "representations", "seeds", "other"]),
        st.sampled_from([np.float32, np.int64, np.bool_, np.complex64, "U3"]).flatmap(
            lambda kind: arrays(kind, st.lists(st.integers(0, 3), max_size=4).map(tuple))
        ),
        max_size=4,
    )
)
def test_arrays_of_any_kind(tmp_path, content):
    path = tmp_path / "a.npz"
    np.savez(path, **content)
    try:
        jaxstab.measure(path, only=["pairwise_disagreement"])
    except InputError as error:
        _one_line(error)


@pytest.mark.parametrize("suffix", ["csv", "txt", "tsv"])
@MANY
@given(st.binary(max_size=200))
def test_seed_files_of_any_bytes(tmp_path_factory, suffix, content):
    directory = tmp_path_factory.mktemp("seeds")
    for seed in range(2):
        (directory / f"seed-{seed}.{suffix}").write_bytes(content)
    try:
        jaxstab.measure(directory, only=["pairwise_disagreement"])
    except InputError as error:
        _one_line(error)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text("a1,", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["0", "arg_1", "step"]), inner),
    max_leaves=4,
)
SAMPLE = {
    "doc_id": 0,
    "doc_hash": "a",
    "target": "1",
    "arguments": {"gen_args_0": {"arg_0": "a", "arg_1": " b"}, "gen_args_1": {"arg_0": "a", "arg_1": " c"}},
    "filtered_resps": [["-1.5", "False"], ["-2.5", "False"]],
    "filter": "none",
    "metrics": ["acc", "acc_norm"],
    "acc": 0.0,
    "acc_norm": 0.0,
}


@MANY
@given(st.sampled_from([None, "acc_norm", "f1"]), st.dictionaries(st.sampled_from(list(SAMPLE)), JSON, max_size=2))
def test_samples_of_lm_eval_of_any_kind(tmp_path_factory, metric, changes):
    directory = tmp_path_factory.mktemp("lm-eval")
    for seed in range(2):
        rows = [SAMPLE, {**SAMPLE, "doc_id": 1, **changes}]
        file = directory / f"seed-{seed}" / "samples_a_2026-01-01T00-00-00.0.jsonl"
        file.parent.mkdir()
        file.write_text("\n".join(map(json.dumps, rows)))
    _measured_or_one_line(directory, metric)


@MANY
@given(st.sampled_from(["id prediction label", "seed prediction", "prediction prediction", "label"]), st.data())
def test_tables_of_any_kind(tmp_path_factory, columns, data):
    directory = tmp_path_factory.mktemp("tables")
    names = columns.split()
    for seed in range(2):
        rows = data.draw(st.lists(st.lists(JSON, min_size=len(names), max_size=len(names)), max_size=3) | JSON)
        (directory / f"seed-{seed}").mkdir()
        (directory / f"seed-{seed}" / "a.table.json").write_text(json.dumps({"columns": names, "data": rows}))
    _measured_or_one_line(directory)


@pytest.mark.parametrize("name", ["trainer_state.json", "all_results.json"])
@MANY
@given(st.dictionaries(st.sampled_from(["log_history", "eval_f1"]), JSON) | JSON)
def test_states_of_trainers_of_any_kind(tmp_path_factory, name, state):
    directory = tmp_path_factory.mktemp("trainers")
    for seed in range(2):
        (directory / f"seed-{seed}").mkdir()
        (directory / f"seed-{seed}" / name).write_text(json.dumps(state))
    _measured_or_one_line(directory)


@MANY
@given(st.lists(st.lists(st.sampled_from(["seed", "name", "f1", "x - y", "x - y__MIN", "1", "", "nan", "b"]))))
def test_tables_of_runs_of_any_kind(tmp_path, rows):
    path = tmp_path / "runs.csv"
    path.write_text("\n".join(",".join(row) for row in rows))
    _measured_or_one_line(path)


def _measured_or_one_line(path, metric=None):
    try:
        jaxstab.measure(path, only=["sd", "pairwise_disagreement"], metric=metric)
    except InputError as error:
        _one_line(error)


class _Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


def test_pickles_are_not_opened(tmp_path):
    np.savez(tmp_path / "a.npz", logits=np.array([_Bomb()], dtype=object), allow_pickle=True)
    (tmp_path / "b.npz").write_bytes(pickle.dumps(_Bomb()))
    np.save(tmp_path / "c.npy", np.array([_Bomb()], dtype=object), allow_pickle=True)
    for name in ("a.npz", "b.npz", "c.npy"):
        with pytest.raises(InputError, match=name):
            load_outputs(tmp_path / name)


def test_nothing_in_the_package_runs_what_it_reads():
    from pathlib import Path

    source = {path: path.read_text() for path in (Path(__file__).parents[1] / "jaxstab").rglob("*.py")}
    for word in (
        "import pickle",
        "pickle.load",
        "allow_pickle=True",
        "trust_remote_code",
        "eval(",
        "exec(",
        "yaml.load",
    ):
        assert [path.name for path, text in source.items() if word in text.replace("set_eval(", "")] == [], word
