import shutil
import subprocess

import pytest

from stages.tools import new_project
from stages.tools.new_project import DVC_CONFIG, FILES, PACKAGE
from tests.import_graph import ROOT
from tests.small_project import run


def test_a_project_has_the_code_and_the_files_of_the_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "cd -- 'my model' && git add ." in run("new", "my model").stdout
    project = tmp_path / "my model"
    for name in FILES.read_text().split():
        if name not in (".dvc/config", "params.yaml"):
            assert (project / name).read_bytes() == (ROOT / name).read_bytes()
    assert (project / ".dvc/config").read_text() == DVC_CONFIG
    code = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert len(code) > 100
    for name in code:
        assert (project / "stages" / name).read_bytes() == (PACKAGE / name).read_bytes()
    assert not list(project.rglob("__pycache__"))
    assert (project / ".git").is_dir()


def test_parameters_are_those_of_the_last_commit_of_a_clone(tmp_path, monkeypatch):
    def git(*words: str) -> None:
        command = ["git", "-c", "user.name=Tester", "-c", "user.email=tester@example.org", *words]
        subprocess.run(command, cwd=tmp_path, check=True)

    (tmp_path / "stages").mkdir()
    (tmp_path / "params.yaml").write_text("budget: 1\n")
    monkeypatch.setattr(new_project, "PACKAGE", tmp_path / "stages")
    git("init", "-q")
    assert new_project.read_template("params.yaml") == "budget: 1\n"  # of the working tree: there is no commit
    git("add", ".")
    git("commit", "-qm", "first")
    (tmp_path / "params.yaml").write_text("budget: 0.1\n")  # as `dvc exp run -S budget=0.1` does
    assert new_project.read_template("params.yaml") == "budget: 1\n"


def test_git_does_not_add_what_a_stage_writes_before_the_first_run_of_dvc(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("new", "project")
    written = ("data/raw/corpus.txt", "data/tokens/val.npy", "models/config.json", "reports/report.html")
    for name in (*written, "data/own/mine.txt", "reports/metrics.json"):
        (tmp_path / "project" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "project" / name).write_text("x")
    command = ["git", "ls-files", "--others", "--exclude-standard"]
    found = subprocess.run(command, cwd=tmp_path / "project", capture_output=True, text=True, check=True).stdout.split()
    assert not set(written) & set(found)
    assert {"data/own/mine.txt", "reports/metrics.json", "data/raw/.gitignore", "reports/.gitignore"} <= set(found)


def test_a_project_inside_a_repository_belongs_to_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q"], check=True)
    run("new", "inside")
    assert not (tmp_path / "inside/.git").exists()


def test_everything_that_a_new_repository_needs_is_in_the_project():
    """What git tracks outside the code, the tests and the documents, except results of the reference run."""
    listed = subprocess.run(["git", "ls-files", ".*", "data", "*.yaml"], cwd=ROOT, capture_output=True, text=True)
    written_by_dvc = {"data/raw/.gitignore", "data/tokens/.gitignore", "reports/.gitignore"}
    own = (".ci/", ".github/", ".devcontainer/", "docs/", "benchmarks/", "docker/", "lecture/")
    of_the_repository = {".dockerignore", ".pre-commit-config.yaml", "compose.yaml", "models/.gitignore"}
    names = {name for name in listed.stdout.split() if not name.startswith(own)}
    assert names - written_by_dvc - of_the_repository == set(FILES.read_text().split()) - {"LICENSE"}


@pytest.mark.parametrize("kind", ["ignored", "bare"])
def test_a_project_where_git_would_not_track_it_is_a_repository(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q", *["--bare"] * (kind == "bare")], check=True)
    (tmp_path / ".gitignore").write_text("project\n")
    run("new", "project")
    assert (tmp_path / "project/.git").is_dir()


def test_a_project_has_no_storage_of_the_clone(tmp_path, monkeypatch):
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("['remote \"mine\"']\n    url = ssh://me@example.org\n")
    for name in FILES.read_text().split():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "dvc.yaml").write_text("stages: {}")
    (tmp_path / "stages").mkdir()
    monkeypatch.setattr(new_project, "PACKAGE", tmp_path / "stages")
    run("new", str(tmp_path / "project"))
    assert "remote" not in (tmp_path / "project/.dvc/config").read_text()


@pytest.mark.parametrize("exists", [True, False])
def test_what_was_written_before_a_failure_is_removed(exists, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if exists:
        (tmp_path / "project").mkdir()
    monkeypatch.setattr(new_project, "read_template", read_nothing)
    assert "project cannot be created: No such file or directory: params.yaml" in run("new", "project", fails=1).stderr
    assert [path.name for path in tmp_path.iterdir()] == ["project"] * exists
    assert not exists or not list((tmp_path / "project").iterdir())
    assert "No space left" in new_project._reason(shutil.Error([("a", "b", "[Errno 28] No space left on device")]))


def read_nothing(name: str) -> str:
    raise FileNotFoundError(2, "No such file or directory", "params.yaml")


def test_a_project_in_the_code_is_refused(monkeypatch):
    monkeypatch.chdir(PACKAGE)
    assert "mine is in the code of Folio" in run("new", "mine", fails=2).stderr


def test_a_link_to_nothing_is_an_error_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "project").symlink_to("nowhere")
    assert "project cannot be created: File exists: project" in run("new", "project", fails=1).stderr


@pytest.mark.parametrize("made", ["file in it", "file"])
def test_what_exists_is_left_alone(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if made == "file":
        (tmp_path / "project").write_text("mine")
        assert "is a file" in run("new", "project", fails=2).stderr
    else:
        (tmp_path / "project").mkdir()
        (tmp_path / "project/params.yaml").write_text("mine")
        assert "project is not empty; name a new or an empty folder" in run("new", "project", fails=2).stderr
        assert (tmp_path / "project/params.yaml").read_text() == "mine"


def test_without_git_nothing_is_created(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    assert "git is not installed" in run("new", "project", fails=1).stderr
    assert not (tmp_path / "project").exists()
