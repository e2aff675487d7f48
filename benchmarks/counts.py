"""Parameters and multiply-accumulates: `python benchmarks/counts.py`.

First every generator family and discriminator, beside what is published of it. Then the networks of the
terms: one forward of one pair by the convention `true`, without the power iteration of the spectral norm.
"published" is the plain network of tests/reference_vem.py; "here" is the same function with the 2x2 means
folded into the kernels before them.
"""

import sys
from pathlib import Path

import torch
from torch import nn

from raydistill.config.architectures import EnergyNetwork
from raydistill.config.terms import PairCritic
from raydistill.method.vid import ChannelVariance
from raydistill.models import GENERATORS, discriminator, patchgan
from raydistill.models.cost import CONVENTIONS, macs, module_macs, module_params, params
from raydistill.models.energy import EnergyModel

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import published_counts
from reference_vem import ReferenceEnergy

ENERGIES = (
    (32, None, 256, 256),
    (8, None, 256, 256),
    (32, 5, 256, 256),
    (32, None, 128, 96),
    (8, None, 48, 64),
    (8, None, 32, 32),
)
"""c, blocks (None: by the picture's size), height, width."""


class _OnPairs(nn.Module):
    """A critic that takes a pair, as the energy does."""

    def __init__(self, critic: nn.Module):
        super().__init__()
        self.critic = critic

    def forward(self, t: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        return self.critic(torch.cat([t, s], 1))  # type: ignore[no-any-return]


def families() -> None:
    """Prints our counts, and how many of the published ones they differ from."""
    print(
        f"| network | parameters | {' | '.join(CONVENTIONS)} | published counts, of which differ "
        f"|\n|{'---|' * (len(CONVENTIONS) + 3)}"
    )
    for row in published_counts.GENERATORS:
        table = GENERATORS[row.config.family].layers(row.config, 3, row.side, row.side)
        counts = {convention: macs(table, convention) for convention in CONVENTIONS}
        differ = sum(counts[convention] != count for convention, count in row.macs.items()) + (
            params(table) != row.params
        )
        cells = " | ".join(f"{count:,}" for count in counts.values())
        print(f"| {row.name} | {params(table):,} | {cells} | {len(row.macs) + 1}, {differ} |")
    for critic in published_counts.DISCRIMINATORS:
        with torch.device("meta"):
            module = discriminator(critic.config, critic.channels)
        number, count = (
            module_params(module),
            module_macs(module, (4, critic.channels, critic.side, critic.side)) // 4,
        )
        differ = (number != critic.params) + (critic.macs not in (None, count))
        print(f"| {critic.name} | {number:,} | {count:,} | | | | {1 + (critic.macs is not None)}, {differ} |")


def main() -> None:
    """Prints both tables."""
    families()
    print()
    rows: list[tuple[str, tuple[int, int], nn.Module, nn.Module]] = []
    with torch.device("meta"):
        for channels, blocks, height, width in ENERGIES:
            energy = EnergyModel(EnergyNetwork(channels=channels, num_blocks=blocks), height, width).eval()
            number = len(energy.blocks)
            rows.append(
                (
                    f"energy c={channels}, {number} blocks",
                    (height, width),
                    energy,
                    ReferenceEnergy(channels, number),
                )
            )
        config = PairCritic().discriminator
        critic = _OnPairs(patchgan.build(config, 6))
        rows.append((f"critic width {config.width}, {config.num_layers} layers", (32, 32), critic, critic))
    print("| network | pictures | parameters | GMAC a forward, published | here |\n|---|---|---|---|---|")
    for name, (height, width), here, published in rows:
        macs = [
            module_macs(module, (1, 3, height, width), (1, 3, height, width)) / 1e9
            for module in (published, here)
        ]
        print(f"| {name} | {height}x{width} | {module_params(here):,} | {macs[0]:.4f} | {macs[1]:.4f} |")
    print(f"| VID's variances | any | {module_params(ChannelVariance(3, 5.0)):,} | 0 | 0 |")


if __name__ == "__main__":
    main()
