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
  RenamedWarning      an old name was used, which the next release does not understand
  NoticeWarning       nothing is stopped, but a person should know: what was damaged and is made again

Every message says what was given, what is allowed, where, and what to do.
"""

import re
import warnings


class RaydistillError(Exception):
    """Base class of all errors that raydistill raises on purpose."""

    exit_code = 1
    """Exit code of a command that ends with the error."""


class InputError(RaydistillError):
    """What the user gave cannot be used. It is raised before any cost where that is possible."""

    exit_code = 2


class ConfigError(InputError):
    """A value or dotted path of a config."""


class DataError(InputError):
    """A folder of data, a picture or a label map."""


class SpaceError(InputError):
    """A search space."""


class BudgetError(InputError):
    """A budget that nothing can meet."""


class StoreError(InputError):
    """A results folder or a file in it: unwritable, full, damaged, or of another version."""


class RunError(RaydistillError):
    """The work itself went wrong."""


class DivergenceError(RunError):
    """A loss or energy left its range."""


class CheckpointError(RunError):
    """A checkpoint is damaged or belongs to another config."""


class RenamedWarning(FutureWarning):
    """An old name was used; the message says the new one."""


class NoticeWarning(UserWarning):
    """Nothing is stopped, but a person should know it: what was damaged and is made again, where files go."""


def say_renamed(old: str, new: str) -> None:
    """Warn that a name has changed, once for each place in the code that uses it."""
    message = f"{old} is called {new} now; the old name goes with the next release"
    warnings.warn(message, RenamedWarning, stacklevel=3)


_PASSWORD = re.compile(r"(?<=//)([^/\s:@]*):[^/\s]*@")


def without_passwords(text: str) -> str:
    """The text with `***` in place of the password of every address in it: `http://user:***@host`."""
    return _PASSWORD.sub(r"\1:***@", text)


def say_notice(message: str) -> None:
    """Warn about what stops nothing. The message says what it is, and what is done instead."""
    warnings.warn(message, NoticeWarning, stacklevel=2)
