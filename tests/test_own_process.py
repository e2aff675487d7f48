"""Functions in processes of their own: what they give, raise, and how an end without a word is said."""

import os
import signal

import pytest

from raydistill.errors import ConfigError, RunError
from raydistill.trials import own_process


def pid_and(value: int) -> tuple[int, int]:
    return os.getpid(), value


def refuse() -> None:
    raise ConfigError("no such thing")


def leave(code: int) -> None:
    os._exit(code)


def be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_an_end_without_a_word_is_said_and_never_waited_for() -> None:
    with pytest.raises(RunError, match=f"{__name__}.be_killed ended before it was done: it was killed"):
        own_process.call(be_killed)


@pytest.mark.slow  # each is a new process, which imports all of this
def test_what_a_function_gives_is_given_and_what_it_raises_is_raised() -> None:
    pid, value = own_process.call(pid_and, 7)
    assert value == 7 and pid != os.getpid()
    with pytest.raises(ConfigError, match="no such thing"):
        own_process.call(refuse)
    for code in (0, 3):
        with pytest.raises(RunError, match="leave ended before it was done"):
            own_process.call(leave, code)
