from __future__ import annotations

import pickle
import subprocess
import sys
import tempfile
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detkit.results import ResultLog

INTEGERS = st.integers(-(2**63), 2**63)
PLAIN = st.none() | st.booleans() | INTEGERS | st.floats(allow_nan=False) | st.text() | st.binary()
RECORDS = st.dictionaries(st.text(), PLAIN | st.lists(PLAIN) | st.dictionaries(st.text(), PLAIN))


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where logs are; nothing is to be left there."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@settings(max_examples=50)
@given(st.dictionaries(INTEGERS, RECORDS) | st.dictionaries(st.text(), RECORDS))
def test_what_is_added_comes_back_in_the_order_of_ids(records: dict[Any, dict[str, Any]]) -> None:
    log = ResultLog()
    for image_id, record in records.items():
        log.append(image_id, record)
    assert len(log) == len(records)
    assert list(log) == sorted(records)
    assert dict(log.items()) == records


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32", "uint8", "bool", ">f8"])
@pytest.mark.parametrize("shape", [(3, 4), (0, 4), (2, 0, 5), (7,), ()])
def test_arrays_keep_type_shape_and_values(dtype: str, shape: tuple[int, ...]) -> None:
    log, array = ResultLog(), np.asarray(100 * np.random.default_rng(0).random(shape)).astype(dtype)
    log.append(1, {"straight": array, "crosswise": array.T, "deep": [{"there": array}]})
    record = log[1]
    for found, expected in ((record["straight"], array), (record["crosswise"], array.T)):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(record["deep"][0]["there"], array)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.ones(1), "a value of type Tensor"),
        (np.array([object()]), "an array of type object"),
        (object(), "a value of type object"),
    ],
)
def test_other_values_are_refused(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResultLog().append(1, {"value": value})


def test_a_second_record_replaces_the_first() -> None:
    log = ResultLog()
    for number in range(3):
        log.append("a", {"number": number})
        log.append("b", {"number": -number})
        assert log["a"] == {"number": number}
    assert [record["number"] for _, record in log.items()] == [2, -2]
    assert "a" in log
    assert "c" not in log


@pytest.mark.parametrize("elsewhere", [False, True])
def test_parts_merge_in_any_order(monkeypatch: pytest.MonkeyPatch, temporary: Path, elsewhere: bool) -> None:
    if elsewhere:
        monkeypatch.setenv("WORLD_SIZE", "3")
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    parts = [ResultLog() for _ in range(3)]
    for number in range(10):
        parts[number % 3].append(number, {"square": np.array(number**2)})
    parts[0].append(0, {"square": np.array(100)})
    states = [pickle.loads(pickle.dumps(part.state())) for part in parts]
    assert all(isinstance(state, bytes if elsewhere else str) for state in states)
    for some in permutations(states):
        merged = ResultLog()
        merged.append(77, {})
        merged.merge(some)
        assert {image_id: int(record["square"]) for image_id, record in merged.items()} == {
            0: 100,
            **{number: number**2 for number in range(1, 10)},
        }
    parts[0].merge([part.state() for part in parts])
    assert len(parts[0]) == 10
    del parts, merged
    assert list(temporary.iterdir()) == []


def test_a_shared_folder_is_used_across_machines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    log = ResultLog(tmp_path)
    state = log.state()
    assert isinstance(state, str)
    assert Path(state).parent == tmp_path


def test_a_log_that_is_gone_is_an_error() -> None:
    state = ResultLog().state()
    with pytest.raises(ValueError, match="did it end before they were merged"):
        ResultLog().merge([state])


@pytest.mark.parametrize("end", ["raise SystemExit(3)", "1 / 0", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_crash_leaves_nothing(temporary: Path, end: str) -> None:
    state = "" if "kill" in end else "log.state();"
    code = (
        f"import os, signal; from detkit.results import ResultLog; log = ResultLog(); log.append(1, {{}}); {state}{end}"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"TMPDIR": str(temporary), "PATH": ""}, capture_output=True, check=False
    )
    assert done.returncode not in (0, 2)
    assert list(temporary.iterdir()) == []
