import pytest

from stages.train.distributed import ProcessGroup

COMPLETE = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("changes", "expected", "warns"),
    [
        ({}, ProcessGroup(1, 2), False),
        ({"RANK": "0"}, ProcessGroup(0, 2), False),
        ({"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": None, "MASTER_PORT": None}, ProcessGroup(), False),
        ({"RANK": None, "WORLD_SIZE": None}, ProcessGroup(), False),
        ({"RANK": "", "WORLD_SIZE": ""}, ProcessGroup(), False),
        ({"RANK": "-1"}, ProcessGroup(), True),
        ({"RANK": "2"}, ProcessGroup(), True),
        ({"RANK": "one"}, ProcessGroup(), True),
        ({"RANK": ""}, ProcessGroup(), True),
        ({"WORLD_SIZE": None}, ProcessGroup(), True),
        ({"WORLD_SIZE": "0"}, ProcessGroup(), True),
        ({"RANK": None}, ProcessGroup(), True),
        ({"MASTER_PORT": None}, ProcessGroup(), True),
        ({"MASTER_ADDR": ""}, ProcessGroup(), True),
        ({"MASTER_PORT": "http"}, ProcessGroup(), True),
    ],
)
def test_a_launcher_counts_only_if_its_variables_are_complete(changes, expected, warns, monkeypatch, caplog):
    for name, value in (COMPLETE | changes).items():
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    assert ProcessGroup.from_environment() == expected
    assert ("training in one process" in caplog.text) is warns
