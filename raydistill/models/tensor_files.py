"""Files of tensors that a user names: safetensors, and PyTorch's own. Nothing in them is run.

What their tensors claim is compared with `reading.MOST_BYTES` before they are copied: a view of one number
with strides of 0 may claim terabytes.
"""

import io
import math
import pickle
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from raydistill.reading import UnusableFile, regular, require_claim


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name, which never claim more than the file's size.

    Raises:
        OSError: there is no such file, or none that is read.
        SafetensorError: it is damaged.
    """
    return load_file(regular(path))


def load_torch(content: bytes) -> Any:
    """What a PyTorch file (.pth, .pt) with this content holds, read with `weights_only`, on the CPU.

    Raises:
        OSError: it is damaged, would run code, or what is in it claims more bytes than it has (PyTorch packs
            nothing).
    """
    stream = io.BytesIO(content)
    if zipfile.is_zipfile(stream):
        with zipfile.ZipFile(stream) as archive:
            if (claimed := sum(entry.file_size for entry in archive.infolist())) > len(content):
                raise UnusableFile(f"what is packed in it claims {claimed:,} bytes, it has {len(content):,}")
    stream.seek(0)
    try:
        return torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file may make the reader raise anything
        # PyTorch's own message advises to run the code; it names what was asked for behind "GLOBAL"
        asked = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        raise UnusableFile(
            f"nothing was run: it asks for {asked[1]}. Save the plain state_dict of the network"
            if asked
            else "not a whole PyTorch file (.pth, .pt); download it again"
        ) from None


def require_tensors(tensors: Iterable[Tensor]) -> None:
    """Raises OSError where tensors are no dense arrays in memory, or claim more than `reading.MOST_BYTES`."""
    claimed = 0
    for tensor in tensors:
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
            raise UnusableFile(f"it has a tensor that is not dense: {tensor.layout}, {tensor.device.type}")
        claimed += math.prod(tensor.shape) * tensor.element_size()
    require_claim(claimed, "what its tensors hold")
