"""Super-resolution by 2, to 256x256, `--data FOLDER` of any pictures.

The networks are ours: residual blocks without norms, the L1 distance alone. The term is `recommended_vem`;
no setting was published for it. `--set student.terms.mi=recommended` replaces it.

Lengths: `full` is 1.6 million images; in a `search` each student has 10 % of its length.

PSNR against MACs is searched; `--lpips FILE` scores beside. No window: nothing was published.
"""

from raydistill.space import Length, Lengths, Objective, SearchSpace
from search_spaces.published._parts import ENHANCE, MACS, NEEDS, WHEN, parameters

SPACE = SearchSpace(
    preset="enhance_x2",
    parameters=parameters(ENHANCE),
    when=WHEN,
    needs=NEEDS,
    objectives=(Objective(name="val/psnr", direction="max", reference=10.0), MACS),
    uniform=(32, 16, 8),
    lengths=Lengths(teacher=Length(nimg=1_600_000), student=Length(nimg=1_600_000), search_share=0.1),
)
