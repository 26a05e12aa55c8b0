"""The image as people run it, on a real engine."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.docker.conftest import CLIENT, USER, Project, docker, wait_for
from tests.import_graph import ROOT
from tests.small_project import copy_work_tree

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]
TRAINERS = "$(grep -l -a stages.train /proc/[0-9]*/cmdline | cut -d/ -f3)"
KILL_TRAINER = f"for pid in {TRAINERS}; do [ $pid = $$ ] || kill -9 $pid; done; true"


@pytest.fixture
def name() -> Iterator[str]:
    """Return a container's name; the container is removed."""
    yield "folio-under-test"
    docker("rm", "-f", "folio-under-test")


def test_without_mount_and_network_the_whole_pipeline_runs(image: str, name: str, tmp_path: Path):
    created = docker("create", "--name", name, "--network", "none", image)
    assert created.returncode == 0, created.stdout
    document = YAML().load(ROOT / "params.yaml")
    document["budget"] = 0.02
    document["evaluate"]["max_tokens"] = 10_000
    params = tmp_path / "params.yaml"
    YAML().dump(document, params)
    assert docker("cp", str(params), f"{name}:/opt/project/params.yaml").returncode == 0
    done = docker("start", "--attach", name, timeout=800)
    assert done.returncode == 0, done.stdout
    assert docker("cp", f"{name}:/workspace/reports/metrics.json", str(tmp_path)).returncode == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["val_loss"] < metrics["bigram_val_loss"] / 2


def test_a_mounted_work_tree_is_done_once_and_belongs_to_the_caller(finished: Project):
    owners = {path.stat().st_uid for path in finished.folder.rglob("*") if not path.is_symlink()}
    assert owners == {USER}
    again = finished.run()
    assert again.returncode == 0
    assert "up to date" in again.stdout
    assert "Running stage" not in again.stdout


def test_comparing_works_inside_also_for_another_owners_repository(finished: Project, tmp_path: Path):
    project = finished.copy(tmp_path / "project")
    project.set(train={"max_steps": 60}, sample={"temperature": 0.5})
    assert project.run("dvc", "repro", "evaluate", user=0).returncode == 0
    for user in (0, USER):
        params = project.run("dvc", "params", "diff", user=user)
        assert params.returncode == 0, params.stdout
        assert "train.max_steps" in params.stdout
        assert "0.5" in params.stdout
    metrics = project.run("dvc", "metrics", "diff", user=0)
    assert metrics.returncode == 0, metrics.stdout
    assert "val_loss" in metrics.stdout


def test_a_mirror_can_be_mounted(fresh: Project, tmp_path: Path):
    (tmp_path / "mirror/tinyshakespeare").mkdir(parents=True)
    (tmp_path / "mirror/tinyshakespeare/input.txt").write_text("not the text\n")
    tmp_path.chmod(0o755)
    project = fresh.copy(tmp_path / "project")
    project.set(download={"corpus": "tinyshakespeare"})
    mirror = ("-v", f"{tmp_path}/mirror:/mirror:ro", "-e", "FOLIO_MIRROR=/mirror")
    done = project.run("download", options=mirror)
    assert "/mirror" in done.stdout  # the mirror was looked at, and its text refused
    assert "sha256" in done.stdout


def test_a_read_only_root_file_system_is_enough(finished: Project, tmp_path: Path):
    project = finished.copy(tmp_path / "project")
    done = project.run("-f", "sample", options=("--read-only", "--tmpfs", "/tmp"))
    assert done.returncode == 0, done.stdout
    assert "Running stage 'sample'" in done.stdout


@pytest.mark.parametrize(("how", "code"), [("stop", 143), ("kill", 137), ("no memory", 137)])
def test_a_stopped_run_resumes_to_the_same_bits(
    how: str, code: int, fresh: Project, finished: Project, name: str, tmp_path: Path
):
    project = fresh.copy(tmp_path / "project")
    project.start(name)
    wait_for("step 300 of 1500", name)
    if how == "no memory":  # the system then kills the trainer
        assert docker("exec", name, "sh", "-c", KILL_TRAINER).returncode == 0
    else:
        docker(how, *(["-t", "60"] if how == "stop" else []), name)
    assert docker("wait", name).stdout.strip() == str(code)
    assert ("a stage was killed or crashed, perhaps because" in docker("logs", name).stdout) == (how == "no memory")
    assert not (project.folder / "models/manifest.json").exists()
    again = project.run("dvc", "repro", "train")
    assert again.returncode == 0, again.stdout
    assert "resumed at step" in again.stdout
    assert project.model() == finished.model()


def test_a_failed_stage_gives_its_own_exit_code(fresh: Project, tmp_path: Path):
    project = fresh.copy(tmp_path / "wrong")
    project.set(model={"n_head": 3})
    done = project.run()
    assert done.returncode == 2
    assert "n_embd is 16 and n_head is 3" in done.stdout
    project = fresh.copy(tmp_path / "nowhere")
    project.set(
        download={"corpus": "url", "url": "https://folio.invalid/a", "sha256": "0" * 64, "when_unreachable": "fail"}
    )
    assert project.run().returncode == 1


def test_a_gpu_that_is_not_there_is_named(fresh: Project, tmp_path: Path):
    project = fresh.copy(tmp_path / "project")
    project.set(compute={"device": "cuda"})
    done = project.run()
    assert done.returncode == 2
    assert "compute.device is 'cuda'" in done.stdout
    assert "not compiled with CUDA" in done.stdout
    project.set(compute={"device": "auto"}, train={"max_steps": 20})
    done = project.run("dvc", "repro", "train", options=("-e", "NVIDIA_VISIBLE_DEVICES=all"))
    assert done.returncode == 0, done.stdout
    assert "the container was given a GPU that cannot be used" in done.stdout


def test_an_unwritable_or_full_volume_is_reported_in_one_line(fresh: Project, image: str, tmp_path: Path):
    done = fresh.run(user=12)
    assert done.returncode == 73
    assert done.stdout.count("\n") == 1
    assert "is not writable by user 12" in done.stdout
    project = fresh.copy(tmp_path / "project")
    (project.folder / ".dvc/tmp").mkdir()  # of root, as after `sudo dvc`
    done = project.run()
    assert (done.returncode, done.stdout.count("\n")) == (73, 1)
    assert f".dvc/tmp is not writable by user {USER}, perhaps because DVC ran as another user" in done.stdout
    done = docker("run", "--rm", "--tmpfs", "/workspace:mode=1777,size=50m", "--network", "none", image)
    assert done.returncode == 74
    assert "100 MB are needed" in done.stdout


def test_other_commands_run_unchanged(image: str, finished: Project):
    assert docker("run", "--rm", image, "python", "-c", "print(6 * 7)").stdout.strip() == "42"
    done = finished.run("sample", "--prompt", "the ", "--max-new-tokens", "10", "--num-samples", "1")
    assert done.stdout.startswith("the ")


def test_a_new_project_is_created_inside(image: str, tmp_path: Path):
    tmp_path.chmod(0o777)
    mount = ("--user", f"{USER}:{USER}", "--network", "none", "-v", f"{tmp_path}:/workspace")
    done = docker("run", "--rm", *mount, image, "new", "project")
    assert "created project" in done.stdout, done.stdout
    assert (tmp_path / "project/dvc.yaml").read_bytes() == (ROOT / "dvc.yaml").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["project"]


def test_torch_compile_works_inside(image: str):
    program = (
        "import torch; f = torch.compile(lambda x: (x.sin() + 1).sum()); x = torch.ones(1000); "
        "print(torch.allclose(f(x), (x.sin() + 1).sum()))"
    )
    done = docker("run", "--rm", "--user", f"{USER}:{USER}", "--network", "none", image, "python", "-c", program)
    assert done.stdout.strip().endswith("True"), done.stdout


SECRETS = {
    ".dvc/config.local": "[remote]\npassword = {secret}\n",
    "data/own/private.txt": "{secret}",
    "data/raw/corpus.txt": "{secret}",
    ".env": "TOKEN={secret}",
    "credentials.json": "{secret}",
    "docker/wheels/notes.txt": "{secret}",
    "models/model.safetensors": "{secret}",
}


def test_the_image_says_what_is_in_it_and_where_it_comes_from(image: str):
    listing = ("python3", "-m", "pip", "--python", "/opt/folio/bin/python", "list", "--format", "json")
    arguments = ("--network", "none", "--entrypoint", "env", image, "PATH=/usr/local/bin:/usr/bin:/bin", *listing)
    output = docker("run", "--rm", *arguments).stdout
    installed = {(item["name"].lower(), item["version"]) for item in json.loads(output[output.index("[") :])}
    packages = json.loads((ROOT / "docker/sbom-cpu.cdx.json").read_text())
    folio = packages["metadata"]["component"]
    assert (folio["name"], folio["version"]) in installed
    listed = {(item["name"].lower(), item["version"]) for item in [folio, *packages["components"]]}
    assert listed == installed
    assert len(listed) > 90

    labels = json.loads(docker("image", "inspect", image).stdout)[0]["Config"]["Labels"]
    commit, date = subprocess.run(
        ["git", "log", "-1", "--format=%H %cI"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    found = {name.removeprefix("org.opencontainers.image."): value for name, value in labels.items()}
    assert found["revision"].removesuffix("-modified") == commit
    assert found["created"] == date
    assert found["licenses"] == "MIT"
    assert found["base.name"].startswith("python:3.11")


def test_nothing_private_gets_into_the_image(image: str, tmp_path: Path):
    copy_work_tree(tmp_path)
    for name, content in SECRETS.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content.format(secret="planted-" + "secret"))  # in two parts: this file may be searched as well
    command = [str(tmp_path / "docker/build"), "cpu", "-t", "folio:secrets"]
    subprocess.run(command, env=os.environ | {"DOCKER": CLIENT}, check=True, capture_output=True)
    search = (
        "--user",
        "0",
        "--entrypoint",
        "grep",
        "folio:secrets",
        "-rl",
        "planted-secret",
        "/opt",
        "/home",
        "/workspace",
    )
    try:
        assert docker("run", "--rm", *search).stdout == ""
        assert "planted-secret" not in docker("history", "--no-trunc", "folio:secrets").stdout
    finally:
        docker("rmi", "folio:secrets")


def test_locks_are_deleted_unless_another_container_works_in_the_folder(finished: Project, tmp_path: Path):
    project = finished.copy(tmp_path / "project")
    lock = project.folder / ".dvc/tmp/rwlock"
    lock.write_text("{}")
    user, mount = f"{USER}:{USER}", f"{project.folder}:/workspace"
    docker(
        "run",
        "-d",
        "--name",
        "folio-holds",
        "--user",
        user,
        "-v",
        mount,
        "folio:cpu",
        "sh",
        "-c",
        "echo started; sleep 60",
    )
    try:
        wait_for("started", "folio-holds")
        assert not lock.exists()
        lock.write_text("{}")
        assert "another container works in this folder" in project.run("true").stdout
        assert lock.exists()
    finally:
        docker("rm", "-f", "folio-holds")
    project.run("true")
    assert not lock.exists()


def test_the_image_is_small_and_a_change_of_code_leaves_its_dependencies(image: str, tmp_path: Path):
    inspected = json.loads(docker("image", "inspect", image).stdout)[0]
    assert inspected["Size"] <= 1.75e9  # the base image's own 0.12 to 0.3 GB included
    assert inspected["Config"]["User"] == "1000:1000"
    subprocess.run(["git", "clone", "-q", ROOT, tmp_path / "changed"], check=True)
    for path in ("docker", "requirements", "stages", "pyproject.toml", "setup.py", "data/own", ".dockerignore"):
        subprocess.run(["cp", "-rT", ROOT / path, tmp_path / "changed" / path], check=True)
    with (tmp_path / "changed/stages/cli.py").open("a") as file:
        file.write("# changed\n")
    command = [str(tmp_path / "changed/docker/build"), "cpu", "-t", "folio:changed"]
    subprocess.run(command, env=os.environ | {"DOCKER": CLIENT}, check=True, capture_output=True)
    changed = json.loads(docker("image", "inspect", "folio:changed").stdout)[0]["RootFS"]["Layers"]
    docker("rmi", "folio:changed")
    same = [ours == theirs for ours, theirs in zip(inspected["RootFS"]["Layers"], changed, strict=True)]
    assert not all(same)
    dependencies = next(index for index, equal in enumerate(same) if not equal)
    assert dependencies >= len(same) - 3  # code, installing it, and the folder that runs begin in


def test_bytecode_does_not_depend_on_the_time_of_the_build(image: str):
    code = (
        "import pathlib; paths = [*pathlib.Path('/opt/folio/lib').rglob('*.pyc')]; "
        "print(len(paths), {path.read_bytes()[4] for path in paths})"  # the flags of a hash, checked or not
    )
    done = docker("run", "--rm", "--network", "none", image, "python", "-c", code)
    assert done.returncode == 0, done.stdout
    count, flags = done.stdout.split(maxsplit=1)
    assert int(count) > 5_000
    assert flags.strip() == "{1, 3}"
