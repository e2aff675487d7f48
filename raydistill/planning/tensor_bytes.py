"""Bytes of the tensors that live while something runs. On the meta device, where nothing is allocated, the same as on a real one.

What kernels take beside their results, and what an allocator loses, is not seen.
"""

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveTensorBytes(TorchDispatchMode):
    """Counts what is made inside of it, backward included; what was there before counts nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        """Bytes of each storage that was made, in order."""
        self._events: list[tuple[int, int]] = []
        """(storage, 1: made; -1: gone)"""
        self._alive: dict[int, tuple[int, Any]] = {}
        """Address -> (storage, what tells that it is gone)"""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = {
            tensor.untyped_storage()._cdata
            for tensor in tree_leaves((args, kwargs))
            if isinstance(tensor, Tensor)
        }
        out = func(*args, **(kwargs or {}))
        for tensor in (leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)):
            if (
                address := (storage := tensor.untyped_storage())._cdata
            ) not in self._alive and address not in given:
                self._alive[address] = (len(self.sizes), weakref.ref(storage, self._gone(address)))
                self._events.append((len(self.sizes), 1))
                self.sizes.append(storage.nbytes())
        return out

    def _gone(self, address: int) -> Callable[[Any], None]:
        def gone(reference: Any) -> None:
            storage, _ = self._alive.pop(address)
            self._events.append((storage, -1))

        return gone

    def mark(self) -> int:
        """Where `history` is now."""
        return len(self._events)

    def history(self, without: Iterable[Tensor | None] = ()) -> NDArray[np.int64]:
        """Bytes that live at first (0) and after each tensor was made or gone, but for these tensors, which still live."""
        excluded_baselines = {
            self._alive[tensor.untyped_storage()._cdata][0] for tensor in without if tensor is not None
        }
        sizes = np.array(
            [0 if storage in excluded_baselines else size for storage, size in enumerate(self.sizes)],
            dtype=np.int64,
        )
        events = np.array(self._events, dtype=np.int64).reshape(-1, 2)
        return np.concatenate([[0], np.cumsum(sizes[events[:, 0]] * events[:, 1])]).astype(np.int64)
