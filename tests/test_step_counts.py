"""What one step asks of a device: the counter, and the counts of every start of chains and of known steps."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Stages
from torch import Tensor

from raydistill.commands.doctor_step import run
from raydistill.config.command_options import DoctorOptions
from raydistill.data import read_info
from raydistill.errors import InputError, RunError
from raydistill.models import saved
from raydistill.planning.known_steps import named_step
from raydistill.planning.step_counts import META, Counted, Counting, StepCounts, count_step
from raydistill.training.terms import TERMS, OwnLoss, Pairs
from raydistill.training.terms.vid import Vid


def counts_of(stages: Stages, **values: Any) -> StepCounts:
    job = stages.student_job(**values)
    return count_step(Counted(job.training, read_info(job.data), saved.generator_config(stages.teacher)))


# ---- the counter -------------------------------------------------------------------------------------------


def test_a_kernel_is_what_computes_or_moves_and_no_view_or_allocation() -> None:
    x = torch.empty(4, 6, device=META)
    with Counting(META) as counting:
        y = (x.view(6, 4).t() * 2).add_(1)
        torch.empty_like(y).detach()[1:].expand(3, 3, 6)
        torch.mm(x, x.t())
    counts = counting.counts(0)
    assert dict(counting.by_name) == {"mul": 1, "add_": 1, "mm": 1}
    assert counts.kernels == 3 and counts.waits == () and counts.gmac == pytest.approx(4 * 6 * 4 / 1e9)
    read_and_written = (24 + 24) + (24 + 24) + (24 + 24 + 16)
    assert counts.megabytes_touched == pytest.approx(4 * read_and_written / 1e6)


def test_a_list_of_tensors_counts_once_where_their_shapes_agree() -> None:
    lists = [torch.empty(3, device=META), torch.empty(5, device=META)]
    with Counting(META) as counting:
        torch._foreach_mul(lists, lists)
        torch._foreach_mul(lists, [torch.empty((), device=META)] * 2)
    assert counting.by_name["_foreach_mul"] == 1 + 2


ASKS: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "a value": (lambda s: s.sum().item(), "_local_scalar_dense"),
    "a condition": (lambda s: 1 if s.sum() > 0 else 0, "_local_scalar_dense"),
    "a copy to the host": (lambda s: s.detach().cpu(), "copy to the host"),
    "a list": (lambda s: s.detach().flatten()[:3].tolist(), "copy to the host"),
    "numbers of the host": (lambda s: torch.randn(s.shape).to(s.device), "randn on the host"),
    "an array": (lambda s: torch.from_numpy(np.zeros(4)).to(s.device), "_to_copy of a tensor on the host"),
    "an index of the host": (lambda s: s[torch.tensor([0, 1])], "index of a tensor on the host"),
}


@pytest.mark.parametrize("name", ASKS)
def test_a_term_that_waits_is_named_with_its_line(
    stages: Stages, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Whatever it asks for, the rest is counted, too."""
    ask, what = ASKS[name]

    class Waiting(Vid):
        def own_loss(self, pairs: Pairs) -> OwnLoss:
            ask(pairs.s)
            return super().own_loss(pairs)

    monkeypatch.setitem(TERMS, "vid", TERMS["vid"]._replace(build=Waiting))
    counts = counts_of(stages, mi__kind="vid")
    assert counts.waits and all(Path(__file__).name in wait for wait in counts.waits), counts.waits
    assert any(what in wait for wait in counts.waits) and counts.kernels > 100
    if what == "randn on the host":
        assert counts.host_random_bytes == 4 * 4 * 3 * 16 * 16
    else:
        assert counts.synchronisations >= 1


@pytest.mark.parametrize(
    "ask", [lambda s: s.detach().numpy(), lambda s: s[s > 0].sum(), lambda s: torch.nonzero(s.detach())]
)
def test_what_cannot_be_answered_without_values_is_an_error_with_its_line(
    stages: Stages, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Tensor], Any]
) -> None:
    class Waiting(Vid):
        def student_loss(self, pairs: Pairs) -> Tensor:
            ask(pairs.s)
            return super().student_loss(pairs)

    monkeypatch.setitem(TERMS, "vid", TERMS["vid"]._replace(build=Waiting))
    with pytest.raises(RunError, match=r"test_step_counts.py:\d+: .*would wait for the device"):
        counts_of(stages, mi__kind="vid")


# ---- the steps ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["student", "other", "noise", "replay"])
def test_vem_never_waits_wherever_its_chains_start(stages: Stages, start: str) -> None:
    """One collective for each of its two phases; the ring of ends takes two more."""
    counts = counts_of(stages, mi__start=start)
    assert (
        counts.waits == ()
        and counts.host_random_bytes == 0
        and counts.host_to_device_copies
        <= 1
        + (
            start == "other"  # the teacher sees inputs of other images, too
        )
    )
    assert counts.collectives == (4 if start == "replay" else 2)


def test_pictures_on_the_device_are_not_copied(stages: Stages) -> None:
    job = stages.student_job()
    teacher, info = saved.generator_config(stages.teacher), read_info(job.data)
    for outputs in (None, "uint8"):
        counted = Counted(job.training, info, teacher, outputs, is_resident=True)  # type: ignore[arg-type]
        counts = count_step(counted)
        assert counts.host_to_device_copies == counts.synchronisations == 0 and counts.waits == ()


def test_the_published_step_takes_less_kernels_than_it_is_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    """2,274 before; batch norms add four collectives each where several workers share a batch."""
    assert run(DoctorOptions(step="unet256", as_json=True)) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kernels"] <= 1800 and found["host_to_device_copies"] == 1 and found["waits"] == []
    assert found["synchronisations"] == found["host_random_bytes"] == 0 and found["pinned"] is True
    assert 140 < found["gmac"] < 200 and found["collectives"] == 2 + 4 * 13


def test_a_step_of_a_space_is_counted_with_its_values(capsys: pytest.CaptureFixture[str]) -> None:
    kernels = []
    for number in (2, 4):
        values = (f"student.terms.mi.num_steps={number}", "student.terms.mi.start=student")
        assert run(DoctorOptions(step="default", set=values, resident=True)) == 0
        out = capsys.readouterr().out
        assert "batch 16, 32x32, teacher's outputs stored, pictures on the device" in out
        kernels.append(int(out.partition("kernels")[2].split()[0].replace(",", "")))
    assert kernels[1] > kernels[0]


@pytest.mark.parametrize(
    ("name", "values", "what"),
    [
        (
            "unet265",
            (),
            "--step unet265: no step of that name .unet256, resnet64, .*aligned, .*camvid",
        ),
        ("unet256", ("student.terms.mi.num_step=3",), "num_step"),
        ("cyclegan", (), "--step cyclegan: data.root is empty.*give --set data.root=FOLDER"),
        ("unet256", ("data.height=1",), "1"),
    ],
)
def test_a_step_that_there_is_not_is_refused(name: str, values: tuple[str, ...], what: str) -> None:
    with pytest.raises(InputError, match=what):
        count_step(named_step(name, values, "student", False).counted)
