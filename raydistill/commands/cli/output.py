"""What a command prints reaches any terminal, file or pipe, or ends the command without a traceback."""

import codecs
import contextlib
import locale
import os
import re
import sys
from pathlib import Path

CLOSED = 1
"""Exit code where nobody reads any more what a command prints, as after `| head -1`."""
_COMMANDS = ("raydistill", "__main__.py", "sweep.py")
"""File names of what starts a command."""
_LONGEST_WORD, _SHOWN = 1000, 100
"""Characters of a word of a message that is shown shortened, and those that are shown of it."""


def make_safe() -> None:
    """Let every letter be printed: what the terminal does not know as \\xe9 or \\u6728.

    Where the locale is not UTF-8, the command starts once more in Python's UTF-8 mode: names of files and
    what is in files are UTF-8, whatever the terminal knows.
    """
    known = codecs.lookup(locale.getpreferredencoding(False)).name
    if known != "utf-8" and not sys.flags.utf8_mode and Path(sys.argv[0]).name in _COMMANDS:
        os.environ["PYTHONUTF8"] = "1"
        os.environ.setdefault("PYTHONIOENCODING", sys.stdout.encoding)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def say(message: str) -> None:
    """Print a message on stderr, with words of thousands of letters shortened."""
    with contextlib.suppress(BrokenPipeError):
        print(re.sub(rf"\S{{{_LONGEST_WORD},}}", _shortened, message), file=sys.stderr, flush=True)


def _shortened(word: re.Match[str]) -> str:
    return f"{word[0][:_SHOWN]}... ({len(word[0]):,} characters)"


def flushed(code: int) -> int:
    """The exit code of a command that ends with `code`: another one where nobody reads its output."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            # Python flushes once more as it ends, and would complain
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            code = code or CLOSED
    return code
