"""raydistill: frontiers of compressed GAN generators, quality against cost."""

__version__ = "0.1.0"
