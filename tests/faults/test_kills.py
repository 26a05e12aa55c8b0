"""SIGKILL at random moments: the final model and curve are bit for bit those of a run that was never stopped.

FOLIO_KILLS says how many kills for each kind of model: 2 in CI, 20 by the command in docs/reliability.md.
"""

import os
import random
import time

import pytest

from tests.faults.conftest import KINDS, end

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]
KILLS = int(os.environ.get("FOLIO_KILLS", "2"))


def interrupted_in_saving(folder) -> bool:
    """Return whether a kill left a temporary file: it came while a state was being written."""
    return any(folder.glob(".scratch/*/.*"))


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_random_moments_ends_at_the_same_bits(make_project, kind):
    project = make_project(model=KINDS[kind])
    assert project.run()[0] == 0
    whole = project.outputs()
    draw = random.Random(kind)
    kills = in_saving = 0
    while kills < KILLS:
        project.clean()
        process = project.start()
        project.wait_for_state()
        time.sleep(draw.uniform(0, 0.3))
        wants_saving = in_saving < KILLS / 4
        while wants_saving and process.poll() is None and not interrupted_in_saving(project.folder):
            pass
        if process.poll() is not None:  # it finished before the kill
            process.communicate()
            continue
        end(process)
        kills += 1
        in_saving += interrupted_in_saving(project.folder)
        if draw.random() < 0.3:  # sometimes the run that goes on is killed as well
            project.clean()
            second = project.start()
            time.sleep(draw.uniform(1.0, 2.5))
            end(second)
        project.clean()
        code, output = project.run()
        assert code == 0, output
        assert project.outputs() == whole
    print(f"{kind}: {kills} kills, {in_saving} while saving, nothing lost")


def test_resuming_is_logged_and_success_deletes_the_checkpoint(make_project):
    project = make_project(model=KINDS["gpt"])
    process = project.start()
    project.wait_for_state(30)
    end(process)
    code, output = project.run()
    assert code == 0
    assert "resumed at step " in output
    assert not [path for path in project.folder.glob(".scratch/*") if path.is_dir()]
