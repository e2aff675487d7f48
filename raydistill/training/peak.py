"""The most memory that a training needs, measured."""

import contextlib
import ctypes
import re
import sys
from pathlib import Path

import torch

_WEIGHTS = ".safetensors"  # how names of files end that hold a network's weights


def start() -> int:
    """Starts the count of `gb`, which takes what this returns: the bytes of data files mapped so far.

    What earlier trainings in this process have freed goes back to the system first: glibc keeps it, in an
    arena for each of their threads.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    else:
        forget()
    return _mapped_data()


def forget() -> None:
    """Forgets the peak of this process so far: after a large file was mapped for a moment, whose pages `gb`
    cannot take off once it is not mapped any more."""
    with contextlib.suppress(OSError):  # only Linux forgets a peak
        Path("/proc/self/clear_refs").write_text("5")


def gb(mapped: int) -> float | None:
    """The peak since `start` in GiB: of what torch reserved on the GPU, or else of what was resident of
    this process.

    Pages of data files that were mapped since do not count. They are pictures and recorded outputs, which the
    system drops and reads again where memory is short; mapped weights of networks do count, as every
    minibatch needs them. What is mapped now is taken off. So this is asked while they still are, and the peak
    is a little too low where it came before the last of them were read.

    Args:
        mapped: what `start` gave.

    Returns:
        None: this system does not say.
    """
    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved() / 2**30
    status = _status_bytes()
    if "VmHWM" not in status:
        return None
    return (status["VmHWM"] - max(0, _mapped_data() - mapped)) / 2**30


def _mapped_data() -> int:
    """Resident bytes of mapped files, apart from weights of networks."""
    weights, is_weights = 0, False
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/smaps").read_text(errors="replace").splitlines():
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):  # a mapping begins
                is_weights = line.endswith(_WEIGHTS)
            elif is_weights and line.startswith("Rss:"):
                weights += 1024 * int(line.split()[1])
    return max(0, _status_bytes().get("RssFile", 0) - weights)


def _status_bytes() -> dict[str, int]:
    """What Linux says of this process's memory, in bytes; empty on other systems."""
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        return {}
    return {name: 1024 * int(size) for name, size in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}
