"""The error tree.

RaydistillError
  InputError          what the user gave cannot be used; exit code 2, raised before any cost where possible
    ConfigError       a config value or dotted path
    DataError         a folder, picture or label
    SpaceError        a search space
    BudgetError       a budget that nothing can meet
    StoreError        the results folder: unwritable, full, or written by another version
  RunError            the work itself went wrong; exit code 1
    DivergenceError   a loss or energy left its range
    CheckpointError   a checkpoint is damaged or belongs to another config

Warnings
  RenamedWarning      an old name was used, which goes with the next release

Every message says what was given, what is allowed, where, and what to do.
"""

import warnings


class RaydistillError(Exception):
    exit_code = 1


class InputError(RaydistillError):
    exit_code = 2


class ConfigError(InputError):
    pass


class DataError(InputError):
    pass


class SpaceError(InputError):
    pass


class BudgetError(InputError):
    pass


class StoreError(InputError):
    pass


class RunError(RaydistillError):
    pass


class DivergenceError(RunError):
    pass


class CheckpointError(RunError):
    pass


class RenamedWarning(FutureWarning):
    """An old name was used; the message says the new one."""


def say_renamed(old: str, new: str) -> None:
    """Warns, once a place, that a name has changed."""
    message = f"{old} is called {new} now; the old name goes with the next release"
    warnings.warn(message, RenamedWarning, stacklevel=3)
