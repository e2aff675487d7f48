"""Horses -> zebras by mobile ResNets at 256x256, `--data FOLDER`, `--extractor inception=FILE`.

The teacher of base width 64 is trained by least squares, in batches of one, and kept after each slab of ten
epochs. The term has its published settings. `--set student.terms.mi=recommended` or `=recommended_vem`
replaces it.

Lengths: `full` is 200 epochs of the teacher and 800 of the student, as published; in a `search` each
student has 10 % of its length.

Window: GAN Compression's published student of 2.55 G MACs. FID against MACs is searched. For the published
FID, of generated test pictures against train and test, add `--real-split train+test`.

The published code keeps the checkpoint that is best on the test pictures. Here val decides, and test is
scored once.
"""

from raydistill.space import Length, Lengths, SearchSpace, Window
from search_spaces.published._parts import FID, MACS, MOBILE, NEEDS, WHEN, parameters

SPACE = SearchSpace(
    preset="cyclegan_horse2zebra",
    parameters=parameters(MOBILE),
    when=WHEN,
    needs=NEEDS,
    objectives=(FID, MACS),
    constraints=(Window(cost="cost/macs", high=2_546_204_672, convention="conv_out+norm"),),
    uniform=(16, 12, 8),
    lengths=Lengths(
        teacher=Length(epochs=200, reports=20), student=Length(epochs=800, reports=20), search_share=0.1
    ),
)
