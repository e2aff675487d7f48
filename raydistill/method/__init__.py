"""The method of the paper: the energy-based bound on mutual information, its sampler, its rivals, and GAN losses."""
