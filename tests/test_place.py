"""Placement is a pure function of what the nodes have: GPU clusters are tested without GPUs."""

import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from raydistill.cluster import runtime
from raydistill.cluster.placement import (
    DRIVER_CPUS,
    Group,
    Node,
    Placement,
    Placements,
    groups_at_once,
    place_stages,
    why,
    workers_on,
)
from raydistill.cluster.runtime import ShortageWatch
from raydistill.config.sweep_options import SweepOptions
from raydistill.errors import ConfigError, RunError

GIB = 2**30
LAPTOP = [Node("a", 2)]
EIGHT_GPUS = [Node("a", 64, 8, 80 * GIB)]
TWO_BY_FOUR = [Node("a", 32, 4, 24 * GIB), Node("b", 32, 4, 80 * GIB)]


def placed(nodes: list[Node], trial_bytes: int = GIB, **request: object) -> Placements:
    return place_stages(nodes, SweepOptions(**request), lambda gpus, gpu_bytes: trial_bytes)


def refused(nodes: list[Node], trial_bytes: int = GIB, **request: object) -> str:
    with pytest.raises(ConfigError) as error:
        placed(nodes, trial_bytes, **request)
    return str(error.value)


def test_a_laptop_runs_one_inline_trial_a_core():
    places = placed(LAPTOP)
    assert places.trials == Placement(True, Group(1, 1.0, 0.0), 2)
    assert places.stages == Group(2, 1.0, 0.0) and places.recheck == Group(2, 1.0, 0.0)


def test_one_core_is_enough_for_every_stage():
    places = placed([Node("a", 1)])
    assert (
        places.trials.max_concurrent == 1
        and places.stages.workers == 1
        and places.recheck == Group(2, 0.5, 0.0)
    )


@pytest.mark.parametrize(("workers", "trials"), [(1, 2), (2, 1)])
def test_trials_by_ray_train_fit_with_their_own_processes(workers, trials):
    assert placed(LAPTOP, executor="train", workers_per_trial=workers).trials.max_concurrent == trials


@pytest.mark.parametrize("cpus", [(2,), (1, 1, 1), (3, 1), (8, 8, 4), (4,) * 20, (64,)])
@pytest.mark.parametrize("workers", [1, 2, 3, 5])
@pytest.mark.parametrize("cpus_per_worker", [1, 2])
def test_nested_trials_cannot_deadlock_wherever_their_processes_are(cpus, workers, cpus_per_worker):
    """All processes of trials on one node, or spread: every trial's workers still fit."""
    nodes = [Node(str(index), count) for index, count in enumerate(cpus)]
    group = Group(workers, cpus_per_worker * 0.9)
    count = groups_at_once(nodes, group, DRIVER_CPUS)
    for crowded in range(len(nodes)):
        left = [
            node._replace(cpus=node.cpus - DRIVER_CPUS * count * (index == crowded))
            for index, node in enumerate(nodes)
        ]
        assert sum(workers_on(node, group) for node in left) // workers >= count
    if count == 0:
        assert sum(int(node.cpus / group.cpus + 1e-9) for node in nodes) < workers


def test_a_worker_must_fit_on_one_node():
    """Eight CPUs on four nodes hold no worker of four CPUs."""
    assert groups_at_once([Node(name, 2) for name in "abcd"], Group(1, 4.0)) == 0
    text = refused([Node(name, 2) for name in "abcd"], cpus_per_worker=4)
    assert "1 x (4 CPUs, 0 GPUs)" in text and "d: 2 CPUs, 0 GPUs -> 0 of them" in text


def test_more_workers_than_the_cluster_has_are_refused_with_the_arithmetic():
    text = refused(LAPTOP, workers_per_trial=4)
    assert text.startswith(
        "--workers-per-trial 4: a trial needs 4 x (0.9 CPUs, 0 GPUs) and 0.001 CPUs for its own process"
    )
    assert "a: 2 CPUs, 0 GPUs -> 2 of them; use fewer workers or more machines" in text
    assert refused(LAPTOP, teacher_workers=3).startswith(
        "--teacher-workers 3: the teacher needs 3 x (1 CPUs, 0 GPUs)"
    )
    assert "share GPUs with --teacher-gpus 0.5" in refused([Node("a", 8, 1, 80 * GIB)], teacher_workers=2)


def test_gpus_asked_for_and_absent_are_refused():
    assert "--gpus-per-worker 0.5: no node has a GPU (a: 2 CPUs, 0 GPUs)" in refused(
        LAPTOP, gpus_per_worker=0.5
    )
    assert "--teacher-gpus 1: no node has a GPU" in refused(LAPTOP, teacher_gpus=1.0)


@pytest.mark.parametrize(
    ("gib", "share", "trials"), [(40, 1.0, 8), (30, 0.5, 16), (20, 1 / 3, 24), (1, 0.25, 32)]
)
def test_trials_are_packed_by_their_predicted_memory(gib, share, trials):
    """72 of 80 GiB are used; at most four trials share a GPU."""
    placement = placed(EIGHT_GPUS, gib * GIB).trials
    assert (
        placement.inline
        and placement.group.gpus == pytest.approx(share)
        and placement.max_concurrent == trials
    )


def test_the_smallest_gpu_decides_the_share():
    assert placed(TWO_BY_FOUR, 10 * GIB).trials.group.gpus == 0.5
    text = refused(TWO_BY_FOUR, 30 * GIB)
    assert "30.00 GiB" in text and "21.60 GiB" in text and "student.batch_size" in text


def test_a_share_that_is_too_small_is_refused():
    text = refused(EIGHT_GPUS, 10 * GIB, gpus_per_worker=0.1)
    assert "10.00 GiB" in text and "7.20 GiB" in text
    assert placed(EIGHT_GPUS, 10 * GIB, gpus_per_worker=0.2).trials.max_concurrent == 40


def test_workers_of_one_trial_get_gpus_of_their_own():
    placement = placed(TWO_BY_FOUR, GIB, workers_per_trial=4).trials
    assert not placement.inline and placement.group == Group(4, 0.9, 1.0) and placement.max_concurrent == 2


def test_one_gpu_serves_every_stage():
    places = placed([Node("a", 16, 1, 80 * GIB)], 40 * GIB)
    assert (
        places.stages == Group(1, 1.0, 1.0)
        and places.trials.group.gpus == 1.0
        and places.recheck == Group(2, 0.5, 0.5)
    )


def test_a_share_of_a_gpu_lies_on_one_gpu():
    """Two GPUs hold four trials at 0.4, not five."""
    assert workers_on(Node("a", 64, 2), Group(1, 1.0, 0.4)) == 4
    assert workers_on(Node("a", 64, 5), Group(1, 1.0, 2.0)) == 2


def test_cpus_limit_trials_on_gpus_too():
    assert placed([Node("a", 6, 8, 80 * GIB)]).trials.max_concurrent == 6


def test_gpus_may_be_declined():
    places = placed(EIGHT_GPUS, gpus_per_worker=0.0, teacher_gpus=0.0)
    assert places.trials.group == Group(1, 1.0, 0.0) and places.stages.gpus == 0 and places.recheck.gpus == 0


def test_the_limit_of_the_command_line_holds():
    assert placed(EIGHT_GPUS, max_concurrent=3).trials.max_concurrent == 3
    assert placed(LAPTOP, max_concurrent=3).trials.max_concurrent == 2


def test_floating_point_takes_no_worker_away():
    """.3 CPUs hold three workers of .1, though .3 / .1 is below 3; so do GPUs' shares and whole GPUs."""
    assert workers_on(Node("a", 0.3), Group(1, 0.1)) == 3
    assert workers_on(Node("a", 64, 1), Group(1, 1.0, 1 / 49)) == 49
    assert workers_on(Node("a", 64, 2), Group(1, 1.0, 1 / 3)) == 6
    assert workers_on(Node("a", 64, 3.3), Group(1, 1.0, 1.1)) == 3
    assert workers_on(Node("a", 1.99), Group(1, 1.0)) == 1 and workers_on(Node("a", -1), Group(1, 1.0)) == 0
    assert workers_on(Node("a", 64, 0), Group(1, 1.0, 0.5)) == 0


def test_a_trial_by_ray_train_needs_room_for_its_own_process():
    """Nine tenths of a CPU for its worker, and a thousandth beside it; inline there is nothing beside it."""
    assert placed([Node("a", 0.901)], executor="train").trials.max_concurrent == 1
    assert "0.001 CPUs for its own process" in refused([Node("a", 0.9)], executor="train")
    assert placed([Node("a", 1.0)]).trials.max_concurrent == 1
    trials = placed([Node("a", 2)], executor="train").trials
    assert (trials.trial_cpus, placed([Node("a", 2)]).trials.trial_cpus) == (DRIVER_CPUS, 1.0)
    assert groups_at_once([Node("a", 10)], Group(1, 1.0), driver_cpus=0.25) == 8
    assert groups_at_once([Node("a", 4), Node("b", 4)], Group(2, 1.0), driver_cpus=1.0) == 2
    assert groups_at_once([Node("a", 3)], Group(2, 1.0)) == 1


def test_the_recheck_has_the_largest_share_that_fits():
    assert placed([Node("a", 4)], cpus_per_worker=2).recheck == Group(2, 2.0, 0.0)
    assert placed([Node("a", 3)], cpus_per_worker=2).recheck == Group(2, 1.0, 0.0)
    assert placed([Node("a", 16, 2, 80 * GIB)], 50 * GIB).recheck == Group(2, 1.0, 1.0)
    assert placed([Node("a", 16, 1, 80 * GIB)], 40 * GIB).recheck == Group(2, 0.5, 0.5)
    assert placed([Node("a", 16, 2, 80 * GIB)], gpus_per_worker=2.0).recheck == Group(2, 1.0, 1.0)


@pytest.mark.parametrize(
    ("printed", "expected"),
    [("81559\n24564\n81559\n", 24564 * 2**20), ("[N/A]\n", 0), ("", 0)],
)
def test_nvidia_smi_tells_memory_in_mebibytes(monkeypatch, printed, expected):
    def run(command, **given):
        assert command[:2] == ["nvidia-smi", "--query-gpu=memory.total"] and "nounits" in command[2]
        return subprocess.CompletedProcess(command, 0, stdout=printed)

    monkeypatch.setattr(subprocess, "run", run)
    assert runtime._smallest_gpu_bytes() == expected


def test_without_nvidia_smi_no_memory_is_known(monkeypatch):
    def absent(command, **given):
        raise FileNotFoundError(command[0])

    monkeypatch.setattr(subprocess, "run", absent)
    assert runtime._smallest_gpu_bytes() == 0


def test_nine_tenths_of_a_gpus_memory_are_shared_by_at_most_four_trials():
    for gib, share in ((36.01, 1.0), (35.99, 0.5), (24.0, 1 / 3), (18.0, 0.25), (1.0, 0.25)):
        found = placed(EIGHT_GPUS, int(gib * GIB)).trials.group.gpus
        assert found == pytest.approx(share), gib
    assert placed(EIGHT_GPUS, 72 * GIB).trials.group.gpus == 1.0
    assert "smallest GPU has 72.00 GiB to use" in refused(EIGHT_GPUS, 72 * GIB + 1)
    assert placed(EIGHT_GPUS, 36 * GIB, gpus_per_worker=0.5).trials.group.gpus == 0.5
    assert "give a larger share" in refused(EIGHT_GPUS, 36 * GIB + 1, gpus_per_worker=0.5)


def test_a_shortage_is_said_once_and_ends_the_sweep_after_the_wait(monkeypatch):
    printed, clock, nodes = [], itertools.count(step=3), [Node("head", 0)]
    monkeypatch.setattr(runtime, "alive_nodes", lambda: nodes)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    watch = ShortageWatch(Group(2, 1.0), 0.0, 10, printed.append)
    watch()
    watch()
    assert printed == [
        "a node was lost and no spare is there: needed 2 x (1 CPUs, 0 GPUs), each worker on one node; "
        "alive: head: 0 CPUs, 0 GPUs; "
        "waiting 10 s for another node"
    ]
    nodes.append(Node("new", 2))
    watch()
    assert "again" in printed[1] and len(printed) == 2
    nodes.pop()
    for _ in range(4):
        watch()
    with pytest.raises(RunError, match=r"no node came within 10 s: needed 2 x .* --resume"):
        watch()


ASKS = """
import subprocess, sys
import ray
from ray._private.services import canonicalize_bootstrap_address_or_die
from raydistill.cluster import nodes, runtime

runtime.start_ray(dashboard=False)
if len(sys.argv) > 1:
    print("up", flush=True)
    sys.stdin.read()
else:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, __file__, "later"], **pipes) as later:
        later.stdout.readline()
        asked = ray.get(ray.remote(num_cpus=0)(lambda: canonicalize_bootstrap_address_or_die(None)).remote())
        later.stdin.close()
    print(asked == nodes.cluster_address())
runtime.stop_ray()
"""


@pytest.mark.slow
def test_a_second_sweep_on_this_machine_is_not_taken_for_the_first(tmp_path, monkeypatch):
    """Ray Train's clean-up asks for its cluster without naming it; a wrong answer would end or leak
    running trials."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", tempfile.mkdtemp(prefix="t-"))
    script = tmp_path / "asks.py"
    script.write_text(ASKS)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=200)
    assert done.stdout == "True\n", done.stdout + done.stderr
    assert not list(Path(os.environ["RAY_TMPDIR"]).iterdir())


@pytest.mark.slow  # of every run: that the file names no Ray, in tests/test_floors.py
def test_placing_needs_no_ray():
    code = "import sys, raydistill.cluster.placement; print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# ---- memory of machines without GPUs -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "trial_bytes", "request_", "trials"),
    [
        ([Node("a", 8, memory_bytes=16 * GIB)], 2 * GIB, {}, 7),
        ([Node("a", 8, memory_bytes=64 * GIB)], 2 * GIB, {}, 8),
        ([Node("a", 8, memory_bytes=16 * GIB)], 2 * GIB, {"max_concurrent": 3}, 3),
        ([Node("a", 4, memory_bytes=8 * GIB), Node("b", 4, memory_bytes=4 * GIB)], 3 * GIB, {}, 3),
        ([Node("a", 8, memory_bytes=16 * GIB)], 2 * GIB, {"workers_per_trial": 2}, 3),
        ([Node("a", 8, memory_bytes=0)], 900 * GIB, {}, 8),
    ],
)
def test_no_more_trials_run_at_a_time_than_memory_holds(nodes, trial_bytes, request_, trials):
    assert placed(nodes, trial_bytes, **request_).trials.max_concurrent == trials


def test_memory_that_limits_is_said():
    nodes = [Node("a", 8, memory_bytes=16 * GIB)]
    said = why(nodes, SweepOptions(), placed(nodes, 2 * GIB).trials)
    assert said.startswith("no more fit into 90% of 16.0 GiB of memory, though 8 x ")
    assert "--max-concurrent 2" in why(
        nodes, SweepOptions(max_concurrent=2), placed(nodes, 2 * GIB, max_concurrent=2).trials
    )


@pytest.mark.parametrize(
    ("trial_bytes", "request_", "printed"),
    [
        (
            12 * GIB,
            {"max_concurrent": 4},
            "--max-concurrent 4: a trial's worker is predicted to take 12.00 GiB",
        ),
        (12 * GIB, {"max_concurrent": 4}, "4 x 1 of them 48.0 GiB, and 90% may be used on a: 23.00 GiB"),
        (12 * GIB, {"max_concurrent": 4}, "give --max-concurrent 1"),
        (22 * GIB, {}, "student.batch_size: a trial's worker is predicted to take 22.00 GiB of memory"),
        (12 * GIB, {"workers_per_trial": 2}, "student.batch_size: a trial's worker"),
    ],
)
def test_a_concurrency_that_memory_cannot_hold_is_refused(trial_bytes, request_, printed):
    assert printed in refused([Node("a", 8, memory_bytes=23 * GIB)], trial_bytes, **request_)


def test_a_whole_gpu_that_is_asked_for_is_given_whatever_memory_is_predicted():
    assert placed([Node("a", 8, 1, 4 * GIB)], 6 * GIB, gpus_per_worker=1).trials.group.gpus == 1
