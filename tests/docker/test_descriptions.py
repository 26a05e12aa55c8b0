"""What describes the job to other tools, read by tools of those trades."""

import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.import_graph import ROOT

pytestmark = [pytest.mark.docker, pytest.mark.timeout(120)]


def check(*command: str | Path) -> None:
    """Run a checker, which must find nothing."""
    if not (shutil.which(command[0]) or Path(command[0]).exists()):
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dockerfile_is_clean():
    check(Path(sys.executable).parent / "hadolint", "docker/Dockerfile", ".devcontainer/Dockerfile")


@pytest.mark.parametrize(
    "script",
    [
        "docker/build",
        "docker/entrypoint.sh",
        "docker/slurm/folio.sbatch",
        "docker/slurm/folio-nodes.sbatch",
        "requirements/update",
        ".devcontainer/setup",
        ".ci/run",
    ],
)
def test_scripts_are_clean(script: str):
    check("shellcheck", "-e", "SC1091", script)


def test_compose_accepts_its_file():
    check("docker-compose", "config", "-q")


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ("github-workflows", ".github/workflows/ci.yml"),
        ("github-issue-forms", ".github/ISSUE_TEMPLATE/bug.yml"),
        ("github-issue-forms", ".github/ISSUE_TEMPLATE/idea.yml"),
        ("github-issue-config", ".github/ISSUE_TEMPLATE/config.yml"),
        ("citation-file-format", "CITATION.cff"),
        ("compose-spec", "compose.yaml"),
    ],
)
def test_what_services_read_fits_their_schemas(schema: str, path: str):
    check(Path(sys.executable).parent / "check-jsonschema", "--builtin-schema", f"vendor.{schema}", path)


def test_the_citation_has_the_version():
    assert (
        f"version: {tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['version']}\n"
        in (ROOT / "CITATION.cff").read_text()
    )


def test_kubernetes_accepts_the_job():
    validator = pytest.importorskip("kubernetes_validate")
    documents = list(YAML(typ="safe").load_all(ROOT / "docker/kubernetes/job.yaml"))
    assert [item["kind"] for item in documents] == ["PersistentVolumeClaim", "Job"]
    for document in documents:
        validator.validate(document, "1.31", strict=True)
    documents[1]["spec"]["template"]["spec"]["containers"][0]["resourcs"] = {}
    with pytest.raises(validator.ValidationError):
        validator.validate(documents[1], "1.31", strict=True)


def test_the_slurm_script_forwards_the_signal_and_requeues_the_job(tmp_path: Path):
    """Neither Slurm nor Apptainer is here: two scripts stand in, which write down how they were called."""
    (tmp_path / "apptainer").write_text(
        f'#!/bin/sh\ntrap "exit 143" TERM\necho "$@" > {tmp_path}/called\nwhile :; do sleep 0.05; done\n'
    )
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/requeued\n')
    for tool in ("apptainer", "scontrol"):
        (tmp_path / tool).chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "FOLIO_MIRROR": "/m"}
    with subprocess.Popen(["bash", ROOT / "docker/slurm/folio.sbatch", "-f"], env=environment, cwd=tmp_path) as job:
        while not (tmp_path / "called").exists():
            time.sleep(0.05)
        job.send_signal(signal.SIGTERM)
        assert job.wait(timeout=30) == 143
    called = (tmp_path / "called").read_text()
    assert f"--nv --bind {tmp_path}:/workspace --pwd /workspace --bind /m:/mirror:ro" in called
    assert called.strip().endswith("folio.sif -f")
    assert (tmp_path / "requeued").read_text().strip() == "requeue 7"


@pytest.mark.parametrize(("code", "requeued"), [(143, True), (0, False)])
def test_the_slurm_script_for_several_machines_forwards_the_signal_too(tmp_path: Path, code: int, requeued: bool):
    (tmp_path / "srun").write_text(
        f'#!/bin/sh\ntrap "exit {code}" TERM\necho "$@" > {tmp_path}/called\nwhile :; do sleep 0.05; done\n'
    )
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\n[ "$1" = show ] && echo node1 || echo "$@" > {tmp_path}/requeued\n')
    for tool in ("srun", "scontrol"):
        (tmp_path / tool).chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_NNODES": "2",
    }  # fmt: skip
    script = ROOT / "docker/slurm/folio-nodes.sbatch"
    assert "#SBATCH --signal=B:TERM@120" in script.read_text()  # to the script, which passes it on
    with subprocess.Popen(["bash", script], env=environment, cwd=tmp_path) as job:
        while not (tmp_path / "called").exists():
            time.sleep(0.05)
        job.send_signal(signal.SIGTERM)
        assert job.wait(timeout=30) == code
    called = (tmp_path / "called").read_text()
    assert "--rdzv-endpoint node1:29500 -m stages.train" in called
    assert f"--env TORCHINDUCTOR_CACHE_DIR=/tmp/inductor-{os.getuid()},XDG_CACHE_HOME=" in called
    assert (tmp_path / "requeued").exists() is requeued


def test_kubeflow_accepts_the_train_job():
    models = pytest.importorskip("kubeflow_trainer_api.models")
    document = YAML(typ="safe").load(ROOT / "docker/kubernetes/trainjob.yaml")
    assert models.TrainerV1alpha1TrainJob.from_dict(document).to_dict() == document  # what it does not know is lost
    document["spec"]["trainer"]["numNode"] = 3
    assert models.TrainerV1alpha1TrainJob.from_dict(document).to_dict() != document
