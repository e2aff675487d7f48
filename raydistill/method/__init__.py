"""The method of the paper: the energy-based bound on mutual information and its sampler, with VID,
GAN losses and penalties, and SSIM.
"""
