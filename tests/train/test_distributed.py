import pytest
import torch

from stages.core.errors import ParameterError
from stages.train.command import check_processes
from stages.train.distributed import World

COMPLETE = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("changes", "expected", "warns"),
    [
        ({}, World(1, 2), False),
        ({"RANK": "0"}, World(0, 2), False),
        ({"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": None, "MASTER_PORT": None}, World(), False),
        ({"RANK": None, "WORLD_SIZE": None}, World(), False),
        ({"RANK": "", "WORLD_SIZE": ""}, World(), False),
        ({"RANK": "-1"}, World(), True),
        ({"RANK": "2"}, World(), True),
        ({"RANK": "one"}, World(), True),
        ({"RANK": ""}, World(), True),
        ({"WORLD_SIZE": None}, World(), True),
        ({"WORLD_SIZE": "0"}, World(), True),
        ({"RANK": None}, World(), True),
        ({"MASTER_PORT": None}, World(), True),
        ({"MASTER_ADDR": ""}, World(), True),
        ({"MASTER_PORT": "http"}, World(), True),
    ],
)
def test_a_launcher_counts_only_if_its_variables_are_complete(changes, expected, warns, monkeypatch, caplog):
    for name, value in (COMPLETE | changes).items():
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    assert World.from_environment() == expected
    assert ("training in one process" in caplog.text) is warns


def test_there_are_no_more_processes_than_gpus(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    check_processes(2, torch.device("cuda"))
    check_processes(1000, torch.device("cpu"))
    for device, gpus in (("cuda", 2), ("mps", 1)):
        with pytest.raises(
            ParameterError, match=f"processes is 3, but the number of GPUs is {gpus}; set it to {gpus} or less"
        ):
            check_processes(3, torch.device(device))
