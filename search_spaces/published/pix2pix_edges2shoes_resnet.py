"""Edges -> shoes by mobile ResNets at 256x256, `--data FOLDER` of A|B, `--extractor inception=FILE`.

Teachers: mobile ResNets of base width 64 and OMGD's deep one, hinge GAN + 100 L1. The term has its
published settings. `--set student.terms.mi=recommended` or `=recommended_vem` replaces it.

Lengths: `full` is 200 epochs, as published; in a `search` each student has 5 % of its length.

Window: GAN Compression's published student of 4.99 G MACs. FID against MACs is searched.

The published code keeps the checkpoint that is best on the test pictures. Here val decides, and test is
scored once.
"""

from raydistill.space import Length, Lengths, SearchSpace, Window
from search_spaces.published._parts import FID, MACS, MOBILE, NEEDS, WHEN, parameters

SPACE = SearchSpace(
    preset="pix2pix_edges2shoes_resnet",
    parameters=parameters(MOBILE),
    when=WHEN,
    needs=NEEDS,
    objectives=(FID, MACS),
    constraints=(Window(cost="cost/macs", high=4_993_843_200, convention="conv_out+norm"),),
    uniform=(16, 12, 8),
    lengths=Lengths(teacher=Length(epochs=200), student=Length(epochs=200), search_share=0.05),
)
