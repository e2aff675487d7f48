"""What doctor says of a healthy machine, and of each thing that can be wrong. A wrong token:
tests/test_sweep.py."""

import contextlib
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from test_on_every_node import ROOT, on_two_nodes, other_torch  # noqa: F401  (a fixture)

from raydistill.cluster import nodes
from raydistill.cluster.nodes import Answer
from raydistill.commands import doctor, doctor_checks, doctor_facts
from raydistill.errors import ConfigError, StoreError
from raydistill.sweep import tracking_store

FACTS = {
    **{"versions": {}, "gpus": [], "torch": {"num_gpus": 0, "version": "2.13.0", "cuda": None, "error": ""}},
    **{
        "storage": {"name": "", "error": ""},
        "disk_gb": 100.0,
        "temporary_gb": 100.0,
        "shm_gb": 8.0,
        "listening": [],
    },
}
GPU = "NVIDIA H100 80GB HBM3, 81559 MiB, 580.95.05"


def answer(num_gpus: int = 0, **facts: object) -> Answer:
    return Answer("node", "id", FACTS | facts, "", num_gpus)


def states(findings: list[doctor.Finding], check: str) -> list[str]:
    return [finding.state for finding in findings if finding.check == check]


@pytest.mark.slow  # of every run: each check by itself, below
def test_a_healthy_machine_alone_passes_and_nothing_is_left_behind(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
        "PYTHONPATH": str(ROOT)
    }
    command = [sys.executable, "-m", "raydistill", "doctor", "--store", "runs", "--json"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
    findings = [doctor.Finding(**finding) for finding in json.loads(done.stdout)]
    assert done.returncode == 0 and not any(finding.state == "fail" for finding in findings), done.stdout
    checks = {
        "authentication",
        "store",
        "ray",
        "versions",
        "clock",
        "gpus",
        "disk",
        "shared memory",
        "ports",
        "storage",
        "tracking",
    }
    assert {finding.check for finding in findings} == checks | {"dashboard port"}
    assert states(findings, "ports") == ["ok"]  # on loopback alone
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow  # a sweep that refuses such a node: tests/test_on_every_node.py
def test_a_node_of_other_versions_is_named_and_the_others_are_not(tmp_path, other_torch):  # noqa: F811
    expression = (
        "[runtime.stop_ray(), [finding._asdict() for finding in doctor.examine(Path('runs'), None)]][1]"
    )
    findings = [
        doctor.Finding(**finding) for finding in on_two_nodes(expression, tmp_path, PYTHONPATH=other_torch)
    ]
    wrong = [finding for finding in findings if finding.check == "versions" and finding.state != "ok"]
    assert [finding.state for finding in wrong] == ["fail"] and "torch 9.9.9, the driver has" in wrong[0].what
    assert states(findings, "storage") == states(findings, "clock") == ["ok", "ok"]
    assert len({finding.where for finding in findings if finding.check == "storage"}) == 2


@pytest.mark.parametrize(
    ("environment", "state", "printed"),
    [
        ({}, "warn", "RAY_AUTH_MODE is not set"),
        ({"RAY_AUTH_MODE": "disabled"}, "warn", "RAY_AUTH_MODE=disabled"),
        ({"RAY_AUTH_MODE": "token"}, "fail", "no token"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "empty"}, "fail", "empty is empty"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "open"}, "warn", "others may read the token open"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "closed"}, "ok", "token in closed"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "secret"}, "ok", "the token is in RAY_AUTH_TOKEN"),
    ],
)
def test_what_is_said_of_the_token_of_a_cluster(environment, state, printed, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name, text, mode in (("empty", "", 0o600), ("open", "secret", 0o644), ("closed", "secret", 0o600)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(mode)
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (environment | {"HOME": str(tmp_path)}).items():
        monkeypatch.setenv(name, value)
    finding = doctor_checks.check_authentication(embedded=False)
    assert finding.state == state and printed in finding.what and "secret" not in finding.what
    assert bool(finding.advice) == (state != "ok")


@pytest.mark.parametrize(
    ("finding", "state", "printed"),
    [
        (doctor_checks.check_clock(Answer("node", "", 1.0, ""), 0.1), "ok", "+1.00 s"),
        (doctor_checks.check_clock(Answer("node", "", -9.0, ""), 8.0), "ok", "to within 8.00 s"),
        (doctor_checks.check_clock(Answer("node", "", -9.0, ""), 0.1), "warn", "-9.00 s"),
        (doctor_checks.check_clock(Answer("node", "", 3600.0, ""), 0.1), "fail", "+3600.00 s"),
        (
            doctor_checks.check_clock(Answer("node", "", None, "no answer within 9 s"), 0.1),
            "fail",
            "no answer within 9 s",
        ),
        (doctor_checks.check_gpus(answer())[0], "ok", "no GPUs"),
        (
            doctor_checks.check_gpus(answer(1, gpus=[GPU], torch=FACTS["torch"] | {"num_gpus": 1}))[0],
            "ok",
            "H100",
        ),
        (doctor_checks.check_gpus(answer(1, gpus=[GPU]))[0], "fail", "torch sees 0"),
        (
            doctor_checks.check_gpus(answer(2, gpus=[GPU], torch=FACTS["torch"] | {"num_gpus": 1}))[0],
            "fail",
            "Ray was told of 2 GPUs",
        ),
        (
            doctor_checks.check_gpus(answer(0, gpus=[GPU], torch=FACTS["torch"] | {"num_gpus": 1}))[0],
            "warn",
            "Ray was told of 0 GPUs",
        ),
        (
            doctor_checks.check_gpus(answer(torch={"error": "No module named 'torch'"}))[0],
            "fail",
            "No module named 'torch'",
        ),
        (doctor_checks.check_space(answer(disk_gb=0.1))[0], "fail", "0.1 GiB free for the store"),
        (
            doctor_checks.check_space(answer(temporary_gb=3.0))[1],
            "warn",
            "3.0 GiB free for the temporary folder",
        ),
        (doctor_checks.check_space(answer(shm_gb=0.06))[2], "warn", "/dev/shm of 0.1 GiB"),
        (
            doctor_checks.check_ports(answer(listening=["127.0.0.1:1", "::1:2"]), False)[0],
            "ok",
            "on loopback alone",
        ),
        (
            doctor_checks.check_ports(answer(listening=["127.0.0.1:1", "0.0.0.0:2"]), True)[0],
            "warn",
            "1 of Ray's 2 ports",
        ),
    ],
)
def test_each_trouble_has_its_state_and_every_trouble_an_advice(finding, state, printed):
    assert finding.state == state and printed in finding.what and bool(finding.advice) == (state != "ok")


def test_a_folder_that_a_node_does_not_share_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor_facts, "_torch_sees", dict)  # else each time a process that imports torch
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    (here / "probe").write_text("probe")
    (there / "probe").write_text("probe")  # as if it were there, too
    facts = doctor_facts.node_facts(str(here), "probe", "")
    assert states(doctor_checks.check_storage(answer(storage=facts["storage"]), here), "storage") == ["ok"]
    assert (
        "does not see what this node writes"
        in doctor_checks.check_storage(answer(storage=facts["storage"]), there)[0].what
    )
    (there / "probe").unlink()
    facts = doctor_facts.node_facts(str(there), "probe", "")
    assert "No such file" in doctor_checks.check_storage(answer(storage=facts["storage"]), there)[0].what


def test_a_build_of_torch_and_a_patch_of_python_are_no_difference():
    here = {"python": "3.11.7", "torch": "2.13.0+cpu", "raydistill": "0.1.0 (code aa)"}
    assert (
        nodes.differences(here, [Answer("a", "", here | {"python": "3.11.9", "torch": "2.13.0+cu130"}, "")])
        == []
    )
    other = Answer("b", "", here | {"python": "3.12.1", "raydistill": "0.1.0 (code bb)"}, "")
    assert [name for _, name, _ in nodes.differences(here, [other])] == ["python", "raydistill"]


def test_a_store_that_cannot_be_used_fails_and_is_left_alone(tmp_path):
    (tmp_path / "file").write_text("")
    with doctor._probe(tmp_path / "file/runs") as (_, trouble):
        assert "file/runs" in trouble
    (tmp_path / "home").mkdir()
    (tmp_path / "home/letter.txt").write_text("dear")
    with doctor._probe(tmp_path / "home") as (_, trouble):
        assert "not a raydistill store" in trouble
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["letter.txt"]


@contextlib.contextmanager
def web_server():
    class Nothing(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(404)

        do_POST = do_GET

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Nothing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_tracking_store_is_asked_and_not_changed(tmp_path):
    with web_server() as uri, pytest.raises(StoreError, match="cannot be used"):
        tracking_store.probe(uri, "mine")  # a server, but none of MLflow
    with pytest.raises(StoreError, match=r"it cannot be reached: \[Errno 111\] Connection refused"):
        tracking_store.probe(uri, "mine")  # it has ended
    with pytest.raises(StoreError, match="cannot be written"):
        tracking_store.probe(f"sqlite:///{tmp_path}/nowhere/mlflow.db", "mine")
    (tmp_path / "mlflow.db").write_bytes(b"no database at all, but long enough to look like one" * 4)
    with pytest.raises(StoreError, match="not a database"):
        tracking_store.probe(f"sqlite:///{tmp_path}/mlflow.db", "mine")
    tracking_store.probe(f"sqlite:///{tmp_path}/new.db", "mine")
    assert not Path(tmp_path / "new.db").exists()


@pytest.mark.parametrize(("plugins_json", "asked"), [("[]", []), ('[{"name": "mine"}]', ["mine"])])
def test_nodes_are_asked_for_plug_ins_where_there_are_any(monkeypatch, plugins_json, asked):
    seen = []

    def on_every_node(function, given):
        seen.extend(each["name"] for each in json.loads(given))
        return [Answer("a", "id", None, "No module named 'mine'")]

    monkeypatch.setattr(nodes, "on_every_node", on_every_node)
    if asked:
        with pytest.raises(ConfigError, match="a plug-in cannot be imported on every node: a: No module"):
            nodes.require_plugins(plugins_json)
    else:
        nodes.require_plugins(plugins_json)
    assert seen == asked
