"""The method of the paper: the energy-based bound on mutual information and its sampler, with VID,
GAN losses and penalties, and SSIM.

The sampler and the two losses can be imported from here, everything else from its file.
"""

from raydistill.method.langevin import langevin
from raydistill.method.vem import ebm_loss, student_mi_loss

__all__ = ["ebm_loss", "langevin", "student_mi_loss"]
