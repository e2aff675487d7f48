"""Sweeps on a cluster of machines, started from an empty folder with nothing but the installed wheel."""

import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from machines import PATH, SHARED, Machines, bare_environment, machines, missing
from published_layouts import LAYOUTS
from test_file_scorers import Classes, Means, script
from test_sweep import TINY

from raydistill.records import tables

pytestmark = [pytest.mark.slow, pytest.mark.skipif(missing() is not None, reason=f"{missing()}")]
SPACE = """
from search_spaces.default import SPACE as DEFAULT

SPACE = DEFAULT.model_copy(update={"uniform": (4, 8)})
"""
OPTIONS = "--space mine --trials 2 --nimg 160 " + " ".join(
    f"--set {path}={value}" for path, value in TINY.items()
)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Iterator[Machines]:
    """Two machines whose virtual environments have the dependencies, a third that no cluster has yet, and a
    client with the wheel installed in an empty folder."""
    folder = tmp_path_factory.mktemp("machines")
    with machines(folder, 3) as running:
        for place in (*(f"machine-{number}/raydistill/venv" for number in (1, 2, 3)), "client/venv"):
            bare_environment(folder / place)
        (folder / "shared").mkdir()
        work = folder / "client/work"
        (work / "wheels").mkdir()
        shutil.copy(wheel, work / "wheels")
        (work / "search_spaces").mkdir()
        (work / "search_spaces/mine.py").write_text(SPACE)
        done = running.on_client(
            f"{SHARED}/client/venv/bin/pip install -q --no-deps wheels/*.whl && "
            'cp -r "$(~/venv/bin/python -c "import raydistill; print(raydistill.__path__[0])")"/launch/. .'
        )
        assert done.returncode == 0, done.stdout
        yield running


def edit(path: Path, changes: dict[str, str]) -> None:
    """Replaces the lines that the file's header tells its user to edit."""
    lines = path.read_text().splitlines()
    for key, value in changes.items():
        (index,) = [
            number
            for number, line in enumerate(lines)
            if line.strip().startswith(f"{key}:") and "<--" in line
        ]
        lines[index] = lines[index].split(key)[0] + f"{key}: {value}"
    assert not [line for line in lines if "<--" in line and not line.startswith("#")]
    path.write_text("\n".join(lines) + "\n")


def check_sweep(sweep_dir: Path, printed: str) -> None:
    """A whole sweep, its frontier at the end of what it said, by nothing but the installed wheel."""
    table = tables.read_table(sweep_dir / "trials.parquet")
    assert table["role"].value_counts().to_dict() == {
        "search": 2,
        "uniform": 2,
        "teacher": 1,
        "no_teacher": 1,
        "recheck": 1,
    }
    assert set(table["status"]) == {"COMPLETE"} and table["front.member"].any()
    assert f"Pareto front of {sweep_dir.name}" in printed and "Traceback" not in printed


def by_files_of_the_head_alone(two: Machines) -> str:
    """Options that name two networks in a folder which no other machine sees."""
    objectives = ("val/kd_script_means:min", "val/miou_script_classes:max", "cost/macs:min")
    for name, network in (("means", Means()), ("classes", Classes())):
        file = script(two.folder / "shared", name, network)
        assert two.on_machine(1, f"cp {SHARED}/shared/{file.name} /run/").returncode == 0
        assert two.on_machine(2, f"test -e /run/{file.name}").returncode == 1
        file.unlink()
    named = "--extractor torchscript=/run/means.pt --segmenter torchscript=/run/classes.pt"
    return named + "".join(f" --objective {each}" for each in objectives)


def test_ray_submit_runs_a_sweep_on_two_machines(two: Machines) -> None:
    work = two.folder / "client/work"
    edit(
        work / "cluster.yaml",
        {
            "head_ip": "10.77.0.1",
            "worker_ips": "[10.77.0.2]",
            "ssh_user": "root",
            "ssh_private_key": "~/.ssh/id_ed25519",
        },
    )

    def ray(command: str, timeout: float = 600) -> str:
        done = two.on_client(f"ray {command}", timeout, PATH=f"{SHARED}/client/venv/bin:{PATH}")
        print(f"$ ray {command}\n{done.stdout}")
        assert done.returncode == 0, done.stdout
        return done.stdout

    ray("get-auth-token --generate > /dev/null")
    ray("up --yes cluster.yaml")
    deadline = time.monotonic() + 300
    while "/4.0 CPU" not in ray("exec cluster.yaml 'ray status'"):
        assert time.monotonic() < deadline
        time.sleep(5)
    scorers = by_files_of_the_head_alone(two)
    printed = ray(f"submit cluster.yaml sweep.py -- --store {SHARED}/shared/runs {OPTIONS} {scorers}")
    sweep = two.folder / "shared/runs/sweeps/mine-001"
    check_sweep(sweep, printed)
    table = tables.read_table(sweep / "trials.parquet")
    assert table[["metric.val/kd_script_means", "metric.val/miou_script_classes"]].notna().all().all()
    assert "val miou_script_classes" in printed and "val kd_script_means" in printed
    assert "4 at a time" in printed
    assert (
        two.on_machine(
            2, "grep -h actor_name:_trainable /tmp/ray/session_latest/logs/worker-*.out"
        ).returncode
        == 0
    )
    again = ray("up --yes cluster.yaml")
    assert "Ray runtime started" not in again  # a cluster that runs is left running
    ray(f"rsync-down cluster.yaml {SHARED}/shared/runs/sweeps/ results")
    assert (work / "results/mine-001/frontier.html").is_file()


PUBLISHED = (
    "--space published/sagan_celeba64 --scale smoke --objective val/kd_evaluator:min:1 --objective "
    f"cost/macs:min --data {SHARED}/shared/celeba/img_align_celeba.zip --store {SHARED}/shared/runs"
)
JOIN = """
cp -r ../machine-1/raydistill/env ../machine-1/raydistill/wheels raydistill/ && cp -r ../machine-1/.ray .
raydistill/venv/bin/pip install -q --no-deps raydistill/wheels/*.whl && . raydistill/env
ray start --address=10.77.0.1:6379 --disable-usage-stats
"""
LOSE = "kill -9 $(pgrep -f '[r]aylet/raylet .*--gcs-address=[^ ]*:6379')"


def test_a_published_experiment_by_ray_submit_loses_a_node_and_goes_on_with_one_that_joins(
    two: Machines,
) -> None:
    """On the cluster of the test before. The worker is lost once the teacher is there."""
    LAYOUTS["sagan_celeba64"](two.folder / "shared/celeba")
    path = f"{SHARED}/client/venv/bin:{PATH}"
    with ThreadPoolExecutor(1) as pool:
        submitted = pool.submit(
            two.on_client, f"ray submit cluster.yaml sweep.py -- --name lost {PUBLISHED}", 1200, PATH=path
        )
        trials = two.folder / "shared/runs/sweeps/lost/trials"
        while not (started := list(trials.glob("0001*"))) and not submitted.done():
            time.sleep(0.2)
        joined = two.on_machine(3, JOIN)
        lost = two.on_machine(2, LOSE)
        done = submitted.result()
    print(joined.stdout, lost.stdout, done.stdout)
    assert started and (joined.returncode, lost.returncode) == (0, 0)
    assert done.returncode == 0 and "Traceback" not in done.stdout
    check_published(trials.parent)
    log = "/tmp/ray/session_latest/logs"
    assert (
        two.on_machine(3, f"grep -lE 'actor_name:(_trainable|RayTrainWorker)' {log}/worker-*").returncode == 0
    )


def test_a_published_experiment_by_ray_job_submit(two: Machines) -> None:
    """On the head and the machine that joined."""
    command = f"raydistill sweep --name job {PUBLISHED}"
    done = two.on_machine(
        1, f". raydistill/env; ray job submit --address http://127.0.0.1:8265 -- {command}", 1200
    )
    print(done.stdout)
    assert done.returncode == 0 and "Traceback" not in done.stdout
    check_published(two.folder / "shared/runs/sweeps/job")


def check_published(sweep: Path) -> None:
    """Two searched trials, a baseline and a recheck, all complete, and the page."""
    table = tables.read_table(sweep / "trials.parquet")
    assert set(table["status"]) == {"COMPLETE"} and (table["role"] == "search").sum() == 2
    assert (sweep / "frontier.html").is_file()


SRUN = """#!/bin/bash
# srun: a command on a machine, by ssh, with this environment in this folder; it ends with this process.
while [[ $1 == --* ]]; do case $1 in --nodelist) node=$2; shift 2;; --overlap) shift;; *) shift 2;; esac; done
reach=(ssh -tt -q -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null)
reach+=(-i /mnt/client/.ssh/id_ed25519 "root@$node")
settings=$(export -p | grep -v -e _OLDPWD= -e ' SHLVL=')
exec "${reach[@]}" "$settings; cd $(printf %q "$PWD") && exec $(printf '%q ' "$@")"
"""
SCONTROL = (
    '#!/bin/bash\n[ "$1 $2 $3" = "show hostnames machine-[1-2]" ] && printf "machine-1\\nmachine-2\\n"\n'
)


def test_the_slurm_script_runs_a_sweep_on_two_machines_and_its_term_leaves_a_sweep_to_resume(
    two: Machines,
) -> None:
    """With an srun and an scontrol of ours, which are all of SLURM that the script calls."""
    folder = two.folder / "shared/slurm"
    shutil.copytree(two.folder / "client/work", folder, ignore=shutil.ignore_patterns("results"))
    bare_environment(folder / ".venv-cluster")
    (folder / "bin").mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    job = {
        "SLURM_SUBMIT_DIR": f"{SHARED}/shared/slurm",
        "SLURM_JOB_NODELIST": "machine-[1-2]",
        "SLURM_CPUS_PER_TASK": "2",
    }
    path = {"PATH": f"{SHARED}/shared/slurm/bin:{PATH}"}
    script = f"bash {SHARED}/shared/slurm/slurm.sh {OPTIONS}"

    first = f"{SHARED}/shared/slurm/runs/sweeps/mine-001/trials/0001/result.json"
    stop = f"{script} & until [ -e {first} ] || ! kill -0 $!; do sleep 0.2; done; kill -TERM $!; wait $!"
    stopped = two.on_machine(1, stop, **job, **path, SLURM_JOB_ID="7")
    print(stopped.stdout)
    assert (
        stopped.returncode == 130
        and "the same command with --resume" in stopped.stdout
        and "Traceback" not in stopped.stdout
    )
    done = two.on_machine(1, f"{script} --resume", **job, **path, SLURM_JOB_ID="8")
    print(done.stdout)
    assert done.returncode == 0, done.stdout
    check_sweep(folder / "runs/sweeps/mine-001", done.stdout)
    assert "Ray: 2 nodes at 10.77.0.1:20008" in done.stdout
    left = two.on_machine(2, "sleep 5; pgrep -f raylet/raylet.*:20008")
    assert left.returncode == 1 and not list(folder.glob(".ray-token-*"))
