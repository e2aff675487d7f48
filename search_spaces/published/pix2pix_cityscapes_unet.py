"""Label maps -> photos of streets by U-Nets at 256x256, `--data FOLDER`, `--segmenter drn105=FILE`.

Two teachers as in OMGD, hinge GAN + 100 L1, three steps of the student for each of theirs. The term has its
published settings. `--set student.terms.mi=recommended` or `=recommended_vem` replaces it.

Lengths: `full` is 250 epochs of the teacher and 750 of the student, as published; in a `search` each
student has 10 % of its length.

Window: the MACs of the published student of base width 16, 1.219 G. DRN's mIoU against MACs is searched.

The published code keeps the checkpoint that is best on the test pictures. Here val decides, and test is
scored once.
"""

from raydistill.space import Length, Lengths, Objective, SearchSpace, Window
from search_spaces.published._parts import MACS, NEEDS, UNET, WHEN, parameters

SPACE = SearchSpace(
    preset="pix2pix_cityscapes_unet",
    parameters=parameters(UNET),
    when=WHEN,
    needs=NEEDS,
    objectives=(Objective(name="val/miou_drn105", direction="max", reference=0.0), MACS),
    constraints=(Window(cost="cost/macs", high=1_219_449_856, convention="conv_out+norm"),),
    uniform=(16, 12, 8),
    lengths=Lengths(teacher=Length(epochs=250), student=Length(epochs=750), search_share=0.1),
)
