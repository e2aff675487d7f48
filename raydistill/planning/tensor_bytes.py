"""Bytes of the tensors that live while something runs.

On the meta device, where nothing is allocated, they are the same as on a real one. What kernels need beside
their results, and what an allocator loses, does not count.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveTensorBytes(TorchDispatchMode):
    """Counts the tensors that are made inside of the context, backward included; older ones count nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        """Bytes of each storage that was made, in order; elsewhere a storage is named by its index here."""
        self._events: list[tuple[int, int]] = []
        """(storage, 1 where it was made or -1 where it was freed), in order."""
        self._alive: dict[int, tuple[int, Any]] = {}
        """Address -> (storage, weak reference whose callback notes that it was freed)."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        arguments = {tensor.untyped_storage()._cdata for tensor in _tensors((args, kwargs))}
        out = func(*args, **(kwargs or {}))
        for tensor in _tensors(out):
            storage = tensor.untyped_storage()
            address = storage._cdata
            if address not in self._alive and address not in arguments:
                self._alive[address] = (len(self.sizes), weakref.ref(storage, self._on_free(address)))
                self._events.append((len(self.sizes), 1))
                self.sizes.append(storage.nbytes())
        return out

    def _on_free(self, address: int) -> Callable[[Any], None]:
        """What is called when the storage at `address` is freed."""

        def note(reference: Any) -> None:
            storage, _ = self._alive.pop(address)
            self._events.append((storage, -1))

        return note

    def mark(self) -> int:
        """The index in `history` of the present moment."""
        return len(self._events)

    def history(self, without: Iterable[Tensor | None] = ()) -> NDArray[np.int64]:
        """Bytes that live at first (0) and after each tensor was made or freed, (1 + number of events,).

        The tensors in `without`, which still live, count nothing.
        """
        sizes = np.array(self.sizes, dtype=np.int64)
        for tensor in without:
            if tensor is not None:
                storage, _ = self._alive[tensor.untyped_storage()._cdata]
                sizes[storage] = 0
        events = np.array(self._events, dtype=np.int64).reshape(-1, 2)
        return np.concatenate([[0], np.cumsum(sizes[events[:, 0]] * events[:, 1])]).astype(np.int64)


def _tensors(tree: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))
