"""Noise -> faces of 256x256 by StyleGAN2, `--data FILE` of FFHQ, `--extractor inception=FILE`.

The teacher is the published one of multiplier 2. A student starts from its channels by CAGC's content
score; its base is plain, because CAGC's losses are not one of raydistill's. The term has its published
settings. `--set student.terms.mi=recommended` or `=recommended_vem` replaces it.

Lengths: `full` is 450,000 steps of 16 pictures; in a `search` each student has 5 % of its length.

The baseline keeps c - int(.7 c) of c channels, as published, and its 4.12 G MACs are the window. FID
against MACs is searched.

The published code keeps the checkpoint that is best on the test pictures. Here val decides, and test is
scored once.
"""

from raydistill.space import Length, Lengths, SearchSpace, Window
from search_spaces.published._parts import FID, MACS, NEEDS, STYLEGAN, WHEN, parameters

SPACE = SearchSpace(
    preset="stylegan2_ffhq256",
    parameters=parameters(STYLEGAN),
    when=WHEN,
    needs=NEEDS,
    objectives=(FID, MACS),
    constraints=(Window(cost="cost/macs", high=4_123_578_080, convention="cagc"),),
    uniform=(),
    uniform_widths={
        "30 %": dict.fromkeys(("at4", "at8", "at16", "at32", "at64"), 154) | {"at128": 77, "at256": 39}
    },
    lengths=Lengths(teacher=Length(nimg=7_200_000), student=Length(nimg=7_200_000), search_share=0.05),
)
