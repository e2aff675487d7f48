"""Noise -> faces of 64x64 by self-attention GANs, `--data FILE` of CelebA, `--extractor inception=FILE`.

The teacher has base width 64, hinge losses and 100,000 steps. The student's base is plain: that of GCC,
which published it, is not one of raydistill's. The term is `recommended_vem`; no setting was published for
it. `--set student.terms.mi=recommended` replaces it.

Lengths: `full` is 6.4 million images; in a `search` each student has 10 % of its length.

Window: the MACs of the published student of base width 48, 254 M. FID against MACs is searched.

The published code keeps the checkpoint that is best on the test pictures. Here val decides, and test is
scored once.
"""

from raydistill.space import Length, Lengths, SearchSpace, Window
from search_spaces.published._parts import FID, MACS, NEEDS, SAGAN, WHEN, parameters

SPACE = SearchSpace(
    preset="sagan_celeba64",
    parameters=parameters(SAGAN),
    when=WHEN,
    needs=NEEDS,
    objectives=(FID, MACS),
    constraints=(Window(cost="cost/macs", high=254_410_752, convention="conv_out"),),
    uniform=(48, 32, 16),
    lengths=Lengths(teacher=Length(nimg=6_400_000), student=Length(nimg=6_400_000), search_share=0.1),
)
