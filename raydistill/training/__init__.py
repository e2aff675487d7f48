"""The training loop, what it minimises, and its checkpoints."""
