"""How tight the bound is where the truth is known: `python benchmarks/truth.py`.

One thread, float64, nats; a few minutes. Gaussian and other pairs: an energy network without spectral norm
against the true mutual information and the best factorised Gaussian (VID). Then the temperature that the
published sampler realises on the published energy network; no bound is claimed for it.
"""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from raydistill.config.architectures import EnergyNetwork
from raydistill.config.data import ShapesData
from raydistill.config.terms import MutualInformation
from raydistill.data import batch, load_split, prepare
from raydistill.method.langevin import langevin, temperature
from raydistill.method.truth.bounds import Estimate, controlled_bound, log_q, log_q_bracket, plain_bound
from raydistill.method.truth.fit import Fit, fit
from raydistill.method.truth.pairs import Pairs, bimodal, draw_s, gaussian, grain, ring, texture
from raydistill.method.truth.temperature import configurational_temperature, slopes_and_curvatures
from raydistill.method.vem import draw_negatives, ebm_loss
from raydistill.models.energy import EnergyModel
from raydistill.seeds import torch_stream

HELD_OUT = 512
HEADER = (
    f"{'dims':>4}  {'pairs':28}  {'VID, best':>9}  {'bound_lower':>16}  {'grid':>16}  {'bound_upper':>16}"
)
HEADER += f"  {'plain':>15}  {'truth':>7}  {'error %':>14}  {'s':>4}"


def shown(estimate: Estimate) -> str:
    """An estimate with its standard error."""
    return f"{estimate.value:7.4f} +-{estimate.error:6.4f}"


def row(pairs: Pairs, config: Fit) -> None:
    """Trains and measures one kind of pair, and prints its line."""
    started = time.monotonic()
    density = fit(pairs, config)
    generator = torch_stream(config.seed, f"truth-held-out/{pairs.name}/{pairs.dims}")
    s = draw_s(pairs, HELD_OUT, generator)
    t = pairs.draw(s, generator)
    bracket = log_q_bracket(density, t, s, num_levels=400, num_chains=4, generator=generator)
    lower = controlled_bound(pairs, bracket.lower, t, s, normalised=True)
    upper = controlled_bound(pairs, bracket.upper, t, s, normalised=False)
    on_grid, bare, errors = "", plain_bound(pairs, bracket.lower), [lower.value, upper.value]
    if pairs.dims <= 2:
        values = log_q(density, t, s)
        exact, bare = controlled_bound(pairs, values, t, s, normalised=True), plain_bound(pairs, values)
        on_grid, errors = shown(exact), [exact.value]
    percent = " to ".join(f"{100 * (value / pairs.truth - 1):+.2f}" for value in errors)
    line = f"{pairs.dims:4}  {pairs.name:28}  {pairs.vid_best:9.4f}  {shown(lower):>16}  {on_grid:>16}"
    line += f"  {shown(upper):>16}  {shown(bare):>15}  {pairs.truth:7.4f}  {percent:>14}"
    print(f"{line}  {time.monotonic() - started:4.0f}", flush=True)


def trained_energy(
    t: Tensor, s: Tensor, config: MutualInformation, num_updates: int, generator: torch.Generator
) -> EnergyModel:
    """The published network after so many of its steps on these pairs. Chains start at s."""
    torch.manual_seed(0)
    energy = EnergyModel(config.energy, *t.shape[2:])
    optimizer = torch.optim.Adam(
        energy.parameters(), lr=config.optimizer.learning_rate, betas=config.optimizer.betas
    )
    for _ in range(num_updates):
        rows = torch.randint(0, len(t), (16,), generator=generator)
        negatives = chains(energy, s[rows], config, config.num_steps, generator).clamp(-1, 1)
        energy.train()
        loss = ebm_loss(energy(t[rows], s[rows]), energy(negatives, s[rows]), config.l2_weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return energy.eval()


def chains(
    energy: EnergyModel, s: Tensor, config: MutualInformation, num_steps: int, generator: torch.Generator
) -> Tensor:
    """Ends of chains that start at s; no power iteration moves."""
    return draw_negatives(
        energy,
        s,
        config.model_copy(update={"num_steps": num_steps, "clamp": False}),
        lambda: torch.randn(s.shape, generator=generator),
    ).samples


def run(
    energy: Callable[[Tensor], Tensor],
    s: Tensor,
    config: MutualInformation,
    num_steps: int,
    generator: torch.Generator,
) -> Tensor:
    """Ends of chains that start at s. `energy`: t (B, 3, H, W) -> (B,)."""

    def normal() -> Tensor:
        return torch.randn(s.shape, generator=generator)

    return langevin(
        energy, s, num_steps=num_steps, step_size=config.step_size, noise_std=config.noise_std, normal=normal
    ).samples


def temperature_row(
    name: str,
    energy: Callable[[Tensor], Tensor],
    s: Tensor,
    config: MutualInformation,
    num_steps: int,
    generator: torch.Generator,
) -> None:
    """Prints nominal and measured temperature of a sampler on an energy. `s`: where its chains start."""
    samples = run(energy, s, config, num_steps, generator)
    signs = 2.0 * torch.randint(0, 2, s.shape, generator=generator) - 1
    squares, laplacians = slopes_and_curvatures(energy, samples, width=config.noise_std, signs=signs)
    measured = configurational_temperature(squares, laplacians)
    moved = float((samples - s).square().mean().sqrt()) / (config.noise_std * num_steps**0.5)
    slope = float((squares.mean() / s[0].numel()).sqrt())
    nominal = temperature(config.step_size, config.noise_std)
    print(
        f"{name:34}  {num_steps:5}  {nominal:9.2e}  {measured.value:10.2e} +-{measured.error:8.1e}  "
        f"{slope:9.1e}  {moved:14.3f}",
        flush=True,
    )


def published() -> None:
    """Prints the temperature that the published sampler realises."""
    config = MutualInformation(step_size=100.0, energy=EnergyNetwork(channels=8))
    generator = torch_stream(0, "truth-published")
    with tempfile.TemporaryDirectory() as folder:
        split = load_split(prepare(ShapesData(num_train=256, num_val=2, num_test=2), Path(folder)), "train")
        t = batch(split, np.arange(256), flips=np.zeros(256, bool)).target
    s = F.avg_pool2d(F.pad(t, (1, 1, 1, 1), mode="replicate"), 3, 1)
    some = s[:32]
    print(
        f"\n{'energy':34}  {'steps':>5}  {'nominal T':>9}  {'measured T':>21}  {'RMS slope':>9}  "
        f"{'moved / free':>14}"
    )
    stiff = 0.5 / config.step_size
    temperature_row(
        "quadratic, step x curvature 0.5",
        lambda x: stiff / 2 * (x - some).square().flatten(1).sum(1),
        some,
        config,
        50,
        generator,
    )
    for num_updates in (0, 200):
        energy = trained_energy(t, s, config, num_updates, generator)
        for num_steps in (10, 500):
            name = f"published, after {num_updates} energy steps"
            temperature_row(name, partial(energy.eval(), s=some), some, config, num_steps, generator)


def main() -> None:
    """Prints both tables."""
    torch.set_num_threads(1)
    started = time.monotonic()
    print(HEADER)
    for rho in (0.3, 0.9):
        for dims in range(1, 9):
            row(gaussian([rho] * dims), Fit())
    for dims in (2, 4, 8):
        row(gaussian(torch.linspace(0.2, 0.9, dims, dtype=torch.float64).tolist()), Fit())
    for pairs, hidden in ((bimodal(), 32), (ring(), 32), (grain(), 0), (texture(), 32)):
        row(pairs, Fit(hidden=hidden, num_updates=1600))
    published()
    print(f"\n{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
