"""Commands about data and scores: data inspect, data fetch, evaluator train, evaluate.

Each returns its exit code.
"""

from raydistill.config.command_options import (
    EvaluateOptions,
    EvaluatorOptions,
    FetchOptions,
    InspectOptions,
)


def inspect_data(options: InspectOptions) -> int:
    """Say what a data set is before anything is trained on it: layout, counts, sizes, classes, every problem.

    A contact sheet shows what its pictures look like. Exit code 1 where there are problems.
    """
    from raydistill.data.inspect import run

    return run(options)


def fetch_data(options: FetchOptions) -> int:
    """Bring a public data set from its official address: checked, resumed, unpacked.

    No other command downloads anything.
    """
    from raydistill.data.fetch import run

    return run(options)


def train_evaluator(options: EvaluatorOptions) -> int:
    """Train the evaluator of a search space on data of your own.

    It says its ceiling, too: the score that real pictures get.
    """
    from raydistill.commands.evaluator import run

    return run(options)


def evaluate(options: EvaluateOptions) -> int:
    """Score generators, ONNX files and folders of pictures against real pictures.

    Nothing is downloaded: weights of published networks are files that you name.
    """
    from raydistill.commands.evaluate import run

    return run(options)
