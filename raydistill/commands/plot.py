"""`raydistill plot`: figures of sweeps for print."""

from functools import partial

import pandas as pd

from raydistill.config.analysis_options import PlotOptions
from raydistill.errors import ConfigError
from raydistill.records import ablated


def run(options: PlotOptions) -> int:
    """Writes one figure; returns the exit code, 0.

    Raises:
        ConfigError: the sweeps cannot be compared, the format or metric is not known, or there is nothing of
            the kind to draw.
        StoreError: a sweep has not ended or is damaged, or the file cannot be written.
    """
    from analysis import print_figures
    from analysis.compare import compare

    if options.metric is not None and options.kind in ("front", "attainment"):
        raise ConfigError(f"--metric {options.metric}: is for --kind curves and ablation")
    comparison = compare(options.sweeps, labels=options.labels)
    if options.kind == "front":
        draw = partial(print_figures.draw_fronts, comparison=comparison)
    elif options.kind == "attainment":
        draw = partial(print_figures.draw_attainment, comparison=comparison)
    elif options.kind == "curves":
        draw = partial(print_figures.draw_curves, comparison=comparison, metric=options.metric)
    else:
        sweeps = [member.sweep for side in comparison.sides for member in side.members]
        tables = [ablated.read_table(each.path) for each in sweeps]
        metric = options.metric or comparison.axes[1][0]
        draw = partial(print_figures.draw_ablation, table=pd.concat(tables), metric=metric)
    print_figures.write_figure(options.out, draw, options.width)
    print(options.out)
    return 0
