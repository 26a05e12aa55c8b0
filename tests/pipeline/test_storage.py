"""The way of a run to another machine: folders, S3, SSH and web servers."""

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.pipeline.conftest import Project, contents

pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(300)]


def test_another_machine_pulls_the_whole_run(project: Project, tmp_path: Path):
    project.run("dvc", "remote", "add", "--default", "store", str(tmp_path / "store"))
    project.run("git", "commit", "--quiet", "--all", "--message", "a remote")
    project.run("dvc", "push")
    project.run("git", "clone", "--quiet", str(project.folder), str(tmp_path / "other"))
    other = Project(tmp_path / "other", project.environment)
    other.run("dvc", "pull")
    for folder in ("models", "data/tokens", "data/raw", "reports"):
        assert contents(other.folder / folder) == contents(project.folder / folder)
    assert "up to date" in other.run("dvc", "repro")


@pytest.fixture
def bucket() -> Iterator[str]:
    """Start a real S3 server on this machine, with a bucket; return its address."""
    moto = pytest.importorskip("moto.server")
    boto3 = pytest.importorskip("boto3")
    server = moto.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    boto3.client("s3", endpoint_url=address, region_name="us-east-1", **CREDENTIALS).create_bucket(Bucket="folio")
    yield address
    server.stop()


CREDENTIALS = {"aws_access_key_id": "tester", "aws_secret_access_key": "tester"}


@pytest.mark.filterwarnings("ignore")  # the server's own
def test_s3_carries_a_run_to_another_machine_and_its_run_cache(project: Project, bucket: str, tmp_path: Path):
    project.environment |= {name.upper(): value for name, value in CREDENTIALS.items()}
    project.run("dvc", "remote", "add", "--default", "store", "s3://folio/runs")
    project.run("dvc", "remote", "modify", "store", "endpointurl", bucket)
    push_and_pull(project, tmp_path)


@pytest.fixture
def ssh_store(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Start a real SSH server on this machine; return what a DVC remote needs to know of it."""
    pytest.importorskip("dvc_ssh")
    daemon = shutil.which("sshd", path="/usr/sbin:/usr/bin") or pytest.skip("no sshd here: apt install openssh-server")
    keys = tmp_path / "keys"
    keys.mkdir()
    for name in ("host", "user"):
        generate = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / name)]
        subprocess.run(generate, check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    lines = {
        "Port": port, "ListenAddress": "127.0.0.1", "HostKey": keys / "host", "AuthorizedKeysFile": keys / "user.pub",
        "PidFile": "none", "StrictModes": "no", "UsePAM": "no", "Subsystem": "sftp internal-sftp",
    }  # fmt: skip
    (keys / "sshd_config").write_text("".join(f"{key} {value}\n" for key, value in lines.items()))
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where it drops its rights
    with subprocess.Popen([daemon, "-D", "-e", "-f", str(keys / "sshd_config")], stderr=subprocess.PIPE) as server:
        assert server.stderr
        assert b"listening" in server.stderr.readline()
        address = f"ssh://{getpass.getuser()}@127.0.0.1:{port}{tmp_path / 'store'}"
        yield {"url": address, "keyfile": str(keys / "user")}
        server.terminate()


@pytest.mark.filterwarnings("ignore")
def test_ssh_carries_a_run_to_another_machine_and_its_run_cache(
    project: Project, ssh_store: dict[str, str], tmp_path: Path
):
    project.run("dvc", "remote", "add", "--default", "store", ssh_store["url"])
    project.run("dvc", "remote", "modify", "store", "keyfile", ssh_store["keyfile"])
    push_and_pull(project, tmp_path)
    assert list((tmp_path / "store/files/md5").iterdir())


def push_and_pull(project: Project, tmp_path: Path) -> None:
    """Push to the remote; pull in a clone, and let another fetch what its pipeline needs."""
    project.run("git", "commit", "--quiet", "--all", "--message", "a remote")
    project.run("dvc", "push", "--run-cache")
    project.run("git", "clone", "--quiet", str(project.folder), str(tmp_path / "other"))
    other = Project(tmp_path / "other", project.environment)
    other.run("dvc", "pull", "--run-cache")
    assert contents(other.folder / "models") == contents(project.folder / "models")
    # A third clone has nothing but the lock file: what it needs, and only that, comes from the store.
    project.run("git", "clone", "--quiet", str(project.folder), str(tmp_path / "third"))
    third = Project(tmp_path / "third", project.environment)
    output = third.run("dvc", "repro", "--pull")
    assert "Running stage 'train'" not in output
    assert contents(third.folder / "models") == contents(project.folder / "models")


@pytest.fixture
def website(tmp_path: Path) -> Iterator[str]:
    """Serve a folder by HTTP; return its address."""
    (tmp_path / "site").mkdir()
    handler = partial(QuietHandler, directory=str(tmp_path / "site"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/runs"
        server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files without a line for each on standard error."""

    def log_message(self, *arguments: object) -> None:
        pass


def test_a_run_is_published_by_a_web_server(project: Project, website: str, tmp_path: Path):
    """As docs/experiments-and-storage.md says: pushed to a folder, read by HTTP, as a whole or the model alone."""
    project.run("dvc", "remote", "add", "--local", "store", str(tmp_path / "site/runs"))
    project.run("dvc", "push", "--remote", "store")
    project.run("dvc", "remote", "add", "--default", "web", website)
    project.run("git", "commit", "--quiet", "--all", "--message", "a website")
    project.run("git", "clone", "--quiet", str(project.folder), str(tmp_path / "reader"))
    reader = Project(tmp_path / "reader", project.environment)
    reader.run("dvc", "pull")
    assert contents(reader.folder / "models") == contents(project.folder / "models")
    assert "up to date" in reader.run("dvc", "repro")

    published = contents(project.folder / "models")
    project.run("git", "tag", "--annotate", "model@v1.0.0", "--message", "for the registry")
    project.set({"train.lr": 0.07})
    project.repro()
    project.run("git", "commit", "--quiet", "--all", "--message", "another model, not tagged")
    elsewhere = Project(tmp_path / "elsewhere", project.environment)
    elsewhere.folder.mkdir()
    elsewhere.run("dvc", "artifacts", "get", str(project.folder), "model", "--out", "fetched")
    assert contents(elsewhere.folder / "fetched") == published != contents(project.folder / "models")


@pytest.mark.filterwarnings("ignore")
def test_an_unreachable_store_is_named_and_changes_nothing(project: Project, tmp_path: Path):
    project.environment |= {name.upper(): value for name, value in CREDENTIALS.items()}
    project.run("dvc", "remote", "add", "--default", "store", "s3://folio/runs")
    project.run("dvc", "remote", "modify", "store", "endpointurl", "http://127.0.0.1:1")
    project.run("dvc", "remote", "modify", "store", "connect_timeout", "1")
    before = contents(project.folder / "models")
    failed = project.attempt("dvc", "push")
    assert failed.returncode != 0
    assert "127.0.0.1:1" in failed.stdout
    assert contents(project.folder / "models") == before
    project.set({"train.lr": 0.07})
    assert project.repro() == ["train", "evaluate", "sample", "report"]  # work goes on without the store
