"""A function in a process of its own: its memory, its threads and its use of a GPU end with it."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from raydistill import plugins
from raydistill.errors import RunError

Result = TypeVar("Result")


def call(function: Callable[..., Result], *arguments: Any) -> Result:
    """What a function gives in a new process, which has this one's plug-ins. What it raises is raised.

    Args:
        function: of a module, because the process imports it by name.
        arguments: what pickle can send.

    Raises:
        RunError: the process ended before the function did.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(_called, plugins.to_json(), function, arguments).result()
        except BrokenProcessPool:
            raise RunError(
                f"the process of {function.__module__}.{function.__qualname__} ended before it was done: "
                "it was killed, perhaps because memory ran out, or could not start. Try with more memory"
            ) from None


def _called(shipped: str, function: Callable[..., Result], arguments: tuple[Any, ...]) -> Result:
    plugins.load_json(shipped)
    return function(*arguments)
