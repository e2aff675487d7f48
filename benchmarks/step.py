"""What a distillation step costs, ours against the published way.

    python benchmarks/step.py --part shapes64 [--device cuda]

Whole steps (next minibatch, teacher, student, Langevin, energy step, student step) are taken in turns by
raydistill's recipe and by the plain `tests/reference_vem.py` around the same data, teacher, student and base
loss. Before timing, both are checked to give the same losses and gradients from the same weights, noise and
u.

Parts: shapes32, shapes64, camvid (64x48; real pictures with --data FOLDER) and unet256 (pix2pix U-Net,
teacher ngf 64, student ngf 16, energy c = 32, batch 1). Peak memory is the resident memory of a process of
its own above what it had before its first step; on a GPU it is what the allocator held. `--curves 200` trains
both freely from one start instead.
"""

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from raydistill import distributed
from raydistill.config.architectures import EnergyNetwork, UnetGenerator, UnetWidths
from raydistill.config.base import Frozen, Stored
from raydistill.config.bases import PlainBase
from raydistill.config.data import FolderData, ShapesData
from raydistill.config.experiment import Job
from raydistill.config.paths import with_values
from raydistill.config.presets import shapes32
from raydistill.config.training import DistillTraining
from raydistill.data import Split, load_split, noise, prepare, read_info
from raydistill.data.outputs import chunk_of, store_outputs
from raydistill.distributed import Workers
from raydistill.method.similarity import dissimilarity
from raydistill.method.vem import draw_negatives, ebm_loss, pair_energies, student_mi_loss
from raydistill.models import networks, saved
from raydistill.training import assembly
from raydistill.training.assembly import Assembly
from raydistill.training.loop import advance
from raydistill.training.recipes import Setup, Step

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import reference_vem as reference

PARTS = ("shapes32", "shapes64", "camvid", "unet256")
LIMIT = 1e-9
"""Largest allowed difference before timing, as a share, in float64.

In float32 an activation at its kink makes a difference of 1e-3.
"""


# ---- one part: its data, networks and the two ways of a step -----------------------------------------------


class Measured(NamedTuple):
    """What is trained: config, data and job, and where it runs."""

    training: DistillTraining
    split: Split
    setup: Setup
    job: Job


def set_up(options: argparse.Namespace, folder: Path) -> Measured:
    """Data and an untrained teacher in `folder`.

    At 256 pixels the teacher runs in every step; elsewhere both ways read its stored outputs.
    """
    published = {"student.terms.mi.start": "student", "student.terms.mi.num_steps": 10}
    published["student.base.ssim_weight"] = 5.0
    experiment = with_values(shapes32(), published, where="benchmark")
    training, teacher = experiment.student, experiment.teacher.generator
    if options.part == "unet256":
        teacher = UnetGenerator(widths=UnetWidths.uniform(64))
        mi = training.terms["mi"].model_copy(update={"energy": EnergyNetwork(channels=32)})
        student = UnetGenerator(widths=UnetWidths.uniform(16))
        training = training.model_copy(update={"generator": student, "batch_size": 1, "terms": {"mi": mi}})
    execution = training.execution.model_copy(update={"compile": options.compile})
    training = training.model_copy(update={"execution": execution, "precision": options.precision})
    if options.curves:
        training = training.model_copy(update={"batch_size": min(4, training.batch_size)})
    height, width = {"shapes32": (32, 32), "shapes64": (64, 64), "camvid": (48, 64), "unet256": (256, 256)}[
        options.part
    ]
    small: Frozen = ShapesData(
        height=height, width=width, num_train=64 if width < 256 else 4, num_val=2, num_test=2
    )
    if options.data:
        small = FolderData(root=options.data, height=height, width=width)
    data = prepare(small, folder / "data")  # type: ignore[arg-type]
    setup = Setup(read_info(data), torch.device(options.device), Workers(0, 1))
    split = load_split(data, "train")
    evaluator = networks.evaluator(experiment.evaluator.network, setup.info, 0)
    network = networks.generator(teacher, setup.info, 0)
    stored = saved.save(folder / "teacher", "generator", network, teacher)
    if options.part != "unet256":
        store_outputs(stored, data, network, False, torch.device("cpu"), chunk=chunk_of(training.batch_size))
    evaluated: Stored = saved.save(folder / "evaluator", "evaluator", evaluator, experiment.evaluator.network)
    job = Job(training=training, data=data, evaluator=evaluated, teacher=stored)
    return Measured(training, split, setup, job)


class Way:
    """A way of training: `step(nimg)` is one whole step, after which `numbers` has what it logged."""

    recipe: Assembly
    energy: Any
    numbers: dict[str, Tensor]

    def __init__(self, measured: Measured):
        self.measured = measured
        self.recipe = assembly.build(measured.job, measured.setup)
        self.energy = self.recipe.networks["mi.energy"]

    def minibatch(self, nimg: int) -> Step:
        """The minibatch after `nimg` images."""
        return self.recipe.minibatches.step(nimg)

    def normal(self, nimg: int, s: Tensor) -> Callable[[], Tensor]:
        """Gives the standard normal noise of the Langevin chains after `nimg` images, shaped as `s`."""
        training, images = self.measured.training, range(nimg, nimg + len(s))
        keys = noise.image_keys(training.seed, "langevin", images, s.device)
        drawn = noise.normal(keys, (*s.shape[2:], s.shape[1]), training.terms["mi"].num_steps)
        return iter(drawn.permute(0, 1, 4, 2, 3).to(s.dtype)).__next__


class Ours(Way):
    """raydistill's recipe."""

    def __init__(self, measured: Measured):
        super().__init__(measured)
        setup = measured.setup
        distributed.prepare(self.recipe.networks, measured.training, setup.device, setup.workers)

    def step(self, nimg: int, clock: "Clock | None" = None) -> None:
        """One step. `clock`: gets a lap for each part."""
        clock = clock or Clock(self.measured.setup.device)
        minibatch = self.minibatch(nimg)
        clock.lap("data")
        self.recipe.forward(minibatch)
        clock.lap("teacher and student forward")
        self.numbers = {}
        for phase in self.recipe.phases:
            self.numbers |= advance(
                phase, self.recipe, [minibatch], self.measured.training, self.measured.setup.workers
            )
            clock.lap({"mi.energy": "Langevin and energy step", "generator": "student step"}[phase.name])

    def chains(self) -> Callable[[], object]:
        """A function that takes the Langevin part of a step alone."""
        info = self.measured.setup.info
        shape = (self.measured.training.batch_size, 3, info.height, info.width)
        s = torch.rand(*shape, device=self.measured.setup.device) * 2 - 1
        return lambda: draw_negatives(self.energy, s, self.measured.training.terms["mi"], self.normal(0, s))


class Published(Way):
    """The reference's step, with the same base loss as ours: what differs is the term."""

    dissimilarity = staticmethod(dissimilarity)

    def __init__(self, measured: Measured):
        super().__init__(measured)
        training, state = measured.training, self.energy.state_dict()
        self.energy = reference.ReferenceEnergy(
            training.terms["mi"].energy.channels, len(self.energy.blocks)
        ).to(measured.setup.device)
        self.energy.load_state_dict(state)
        student = self.recipe.networks["generator"]
        self.optimizers = [
            torch.optim.Adam(network.parameters(), lr=config.learning_rate, betas=config.betas)
            for network, config in (
                (self.energy, training.terms["mi"].optimizer),
                (student, training.optimizer),
            )
        ]

    def step(self, nimg: int) -> None:
        """One step."""
        minibatch, training, mi = (
            self.minibatch(nimg),
            self.measured.training,
            self.measured.training.terms["mi"],
        )
        self.recipe.forward(minibatch)
        s, t = minibatch.output, minibatch.teacher
        l1, unlike = nn.functional.l1_loss(s, t), self.dissimilarity(s, t)
        weights = training.base
        assert isinstance(weights, PlainBase)
        base = weights.l1_weight * l1 + weights.ssim_weight * unlike
        settings = {"num_steps": mi.num_steps, "step_size": mi.step_size, "noise_std": mi.noise_std}
        weights = {"l2_weight": mi.l2_weight, "mi_weight": mi.weight}
        found = reference.train_step(
            self.energy, *self.optimizers, s, t, base, self.normal(nimg, s), **settings, **weights
        )
        self.numbers = {
            "train/l1": l1.detach(),
            "train/dissimilarity": unlike.detach(),
            "energy/gap": found["gap"],
        }


# ---- the same losses ---------------------------------------------------------------------------------------


def check(measured: Measured) -> float:
    """The largest difference of losses and gradients in float64, as a share.

    u is frozen, and both ways have the same weights and noise. Ends the process where it is above `LIMIT`.
    """
    ours, published = Ours(measured), Published(measured)
    energy, plain, mi = ours.energy.eval().double(), published.energy.double(), measured.training.terms["mi"]
    for block in energy.blocks:  # as after some training: the branches take part
        nn.init.normal_(block.second.weight, 0.0, 0.1)
    plain.load_state_dict(energy.state_dict())
    plain.iterate(False)
    minibatch = ours.minibatch(0)
    ours.recipe.forward(minibatch)
    s, t = minibatch.output.detach().double().requires_grad_(True), minibatch.teacher.double()
    negatives = draw_negatives(energy, s, mi, ours.normal(0, s)).samples
    expected = reference.draw_negatives(plain, s, ours.normal(0, s), mi.num_steps, mi.step_size, mi.noise_std)
    pos, neg = pair_energies(energy, t, negatives, s.detach())
    pairs: list[Any] = [(negatives, expected)]
    losses = ebm_loss(pos, neg, mi.l2_weight), reference.energy_loss(plain, t, expected, s, mi.l2_weight)[0]
    by_name = dict(plain.named_parameters())
    gradients: tuple[Any, Any] = (
        torch.autograd.grad(losses[0], list(energy.parameters())),
        torch.autograd.grad(losses[1], [by_name[name] for name, _ in energy.named_parameters()]),
    )
    pairs += [tuple(torch.cat([part.flatten() for part in parts]) for parts in gradients)]
    terms = student_mi_loss(energy, t, negatives, s), reference.student_term(plain, t, expected, s)
    pairs += [tuple(torch.autograd.grad(term, s, retain_graph=True)[0] for term in terms)]
    scale = pos.detach().abs().mean()
    pairs.append((dissimilarity(s.detach(), t), reference.dissimilarity(s.detach(), t)))
    shares = [float((a - b).norm() / b.norm()) for a, b in pairs]
    shares += [float((a - b).detach().abs() / scale) for a, b in (losses, terms)]
    if not max(shares) < LIMIT:
        raise SystemExit(
            f"the two ways differ by {max(shares):.1e}, more than {LIMIT:.0e}: not the same step, so not "
            "timed"
        )
    return max(shares)


# ---- time, memory, arithmetic ------------------------------------------------------------------------------


class Clock:
    """Measures laps, in seconds; on a GPU until it has done its part."""

    of_cpu = False
    """Seconds that this process computed, instead of those that passed."""

    def __init__(self, device: torch.device):
        self.device, self.laps = device, {}  # type: ignore[var-annotated]
        self.at = self.now()

    def now(self) -> float:
        """Seconds since some moment."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.process_time() if Clock.of_cpu else time.perf_counter()

    def lap(self, name: str) -> float:
        """Seconds since the last lap, stored under a name."""
        before, self.at = self.at, self.now()
        self.laps[name] = self.at - before
        return self.laps[name]


def timed(measured: Measured, repeats: int) -> dict[str, list[float]]:
    """Name -> seconds of each repeat, taken in turns."""
    ours, published, with_ssim = Ours(measured), Published(measured), PublishedWithSsim(measured)
    chains = ours.chains()
    seconds: dict[str, list[float]] = {}
    for repeat in range(-2, repeats):  # two to warm up
        nimg = (repeat + 2) * measured.training.batch_size
        clock = Clock(measured.setup.device)
        published.step(nimg)
        clock.lap("published")
        with_ssim.step(nimg)
        clock.lap("published, its SSIM")
        inner = Clock(measured.setup.device)
        ours.step(nimg, inner)
        clock.lap("ours")
        chains()
        clock.lap("Langevin")
        if repeat >= 0:
            for name, value in (clock.laps | inner.laps).items():
                seconds.setdefault(name, []).append(value)
    return seconds


def peak_mib(options: argparse.Namespace, name: str) -> float:
    """MiB that three steps of a way need above what the process had before; runs in a process of its own."""
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        measured = set_up(options, Path(folder))
        way = WAYS[name](measured)
        if measured.setup.device.type == "cuda":
            before = torch.cuda.memory_allocated()
            for index in range(3):
                way.step(index * measured.training.batch_size)
            return (torch.cuda.max_memory_allocated() - before) / 2**20
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = _resident("VmRSS")
        for index in range(3):
            way.step(index * measured.training.batch_size)
        return (_resident("VmHWM") - before) / 2**10


def _resident(field: str) -> int:
    """A memory line of /proc/self/status, KiB (Linux)."""
    return next(
        int(line.split()[1])
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith(field)
    )


class Macs(TorchDispatchMode):
    """Adds up the multiply-accumulates of what runs inside, backward passes included."""

    total = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry:
            self.total += flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=result) / 2
        return result


def step_macs(way: Any) -> float:
    """Multiply-accumulates of one step, backward passes included."""
    with Macs() as counted:
        way.step(0)
    return counted.total


def peak_macs_per_sec(device: torch.device) -> float:
    """Multiply-accumulates a second of the best of 30 plain matrix products on this machine."""
    a, b = torch.rand(2, 1024, 1024, device=device)
    clock, best = Clock(device), 0.0
    for _ in range(30):
        clock.at = clock.now()
        a @ b
        best = max(best, 1024**3 / clock.lap("product"))
    return best


class PublishedWithSsim(Published):
    """The reference with its own SSIM, a convolution, for the curves of two independent trainings."""

    dissimilarity = staticmethod(reference.dissimilarity)


WAYS: dict[str, Any] = {"ours": Ours, "published": Published}


# ---- the report --------------------------------------------------------------------------------------------


def report(options: argparse.Namespace, folder: Path) -> None:
    """Checks, measures and prints one part."""
    measured = set_up(options, folder)
    difference = check(measured)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        memory = {name: pool.apply(peak_mib, (options, name)) for name in WAYS}
    seconds = {name: statistics.median(values) for name, values in timed(measured, options.repeats).items()}
    peak, batch = peak_macs_per_sec(measured.setup.device), measured.training.batch_size
    info = measured.setup.info
    clock = "CPU" if Clock.of_cpu else "wall"
    print(
        f"{options.part}: {info.width}x{info.height}, batch {batch}, "
        f"K = {measured.training.terms['mi'].num_steps}, {options.device}"
    )
    print(
        f"{options.threads} thread(s), {options.repeats} interleaved repeats, medians of {clock} time; "
        f"equal to {difference:.0e}"
    )
    print("way         ms a step  images/s  peak MiB  GMAC a step  floor ms  share of the peak")
    for name in WAYS:
        macs = step_macs(WAYS[name](measured))
        floor = macs / peak
        sec = seconds[name]
        line = f"{name:10}  {sec * 1e3:9.1f}  {batch / sec:8.2f}  {memory[name]:8.0f}  {macs / 1e9:11.2f}"
        print(f"{line}  {floor * 1e3:8.1f}  {floor / sec:17.0%}")
    ratio, with_ssim = (seconds[name] / seconds["ours"] for name in ("published", "published, its SSIM"))
    print(
        f"published / ours: {ratio:.2f} times; with an SSIM of its own: {with_ssim:.2f}; matrix products: "
        f"{peak / 1e9:.0f} GMAC/s"
    )
    seconds["energy step"] = seconds.pop("Langevin and energy step") - seconds["Langevin"]
    parts = ("data", "teacher and student forward", "Langevin", "energy step", "student step")
    print("ours: " + ", ".join(f"{name} {seconds[name] / seconds['ours']:.0%}" for name in parts))


def curves(options: argparse.Namespace, folder: Path) -> None:
    """Trains both ways from one start on the same minibatches and noise: a table and a picture."""
    from matplotlib.figure import Figure

    measured = set_up(options, folder)
    names = ("train/l1", "train/dissimilarity", "energy/gap")
    found: dict[str, list[list[float]]] = {}
    for name, way in ((name, WAYS[name](measured)) for name in WAYS):
        for index in range(options.curves):
            way.step(index * measured.training.batch_size)
            found.setdefault(name, []).append([float(way.numbers[quantity]) for quantity in names])
    print("step  " + "  ".join(f"{quantity:>20} ours, published" for quantity in names))
    for index in sorted({0, 1, 2, 5, 10, 20, 50, 100, 150, options.curves - 1} & set(range(options.curves))):
        print(
            f"{index + 1:4}  "
            + "  ".join(
                f"{a:18.6f}{b:18.6f}" for a, b in zip(*(found[name][index] for name in WAYS), strict=True)
            )
        )
    figure = Figure(figsize=(9, 2.6), layout="constrained")
    for axes, quantity, column in zip(figure.subplots(1, len(names)), names, range(len(names)), strict=True):
        for name, style in (("published", "-"), ("ours", "--")):
            axes.plot([row[column] for row in found[name]], style, label=name, linewidth=1)
        axes.set(title=quantity, xlabel="step")
    figure.axes[0].legend()
    figure.savefig(options.out, dpi=80)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=PARTS, default="shapes32")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true", help="ours with execution.compile")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="of ours")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="measure this process's CPU seconds: for one thread on a busy machine",
    )
    parser.add_argument(
        "--data",
        default="",
        help="camvid: a folder of images/ + labels/; drawn pictures of that size without it",
    )
    parser.add_argument(
        "--curves", type=int, default=0, help="train both ways for so many steps of 4 images instead"
    )
    parser.add_argument("--out", default="docs/results/reference_curves.png")
    options = parser.parse_args()
    if options.cpu_time and (options.threads > 1 or options.device != "cpu"):
        parser.error("--cpu-time: needs --threads 1 and --device cpu, as threads that wait compute too")
    if options.data and options.part != "camvid":
        parser.error(f"--data: is read by --part camvid alone, not by {options.part}")
    Clock.of_cpu = options.cpu_time
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        (curves if options.curves else report)(options, Path(folder))


if __name__ == "__main__":
    main()
