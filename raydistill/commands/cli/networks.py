"""Commands about single networks: teacher import, generate, export, latency. Each returns its exit code."""

from raydistill.config.network_options import ExportOptions, GenerateOptions, ImportOptions, LatencyOptions


def import_teacher(options: ImportOptions) -> int:
    """Read a generator that was trained elsewhere, so that it can be a sweep's teacher.

    It knows the layouts of pix2pix, CycleGAN, GAN Compression, OMGD, SAGAN and StyleGAN2.
    """
    from raydistill.commands.import_teacher import run

    return run(options)


def generate(options: GenerateOptions) -> int:
    """Write the pictures that a network makes, of a folder's inputs or of noise, and a grid of the first.

    Pictures that are there are not made again, so after an interrupt the same command goes on.
    """
    from raydistill.commands.generate import run

    return run(options)


def export(options: ExportOptions) -> int:
    """Write a generator for use elsewhere, checked against PyTorch, with a model card beside it.

    Exit code 1, and no file, where its outputs differ from PyTorch's.
    """
    from raydistill.commands.export import run

    return run(options)


def latency(options: LatencyOptions) -> int:
    """Measure how long generators take, in milliseconds (p50 and p95), and their peak memory, in MiB.

    They are measured one after the other, each in a process of its own. The machine should do nothing else.
    """
    from raydistill.commands.latency import run

    return run(options)
