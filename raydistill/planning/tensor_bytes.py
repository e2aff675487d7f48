"""Bytes of the tensors that live while something runs.

On the meta device, where nothing is allocated, they are the same as on a real one. What kernels need beside
their results, and what an allocator loses, does not count.
"""

import functools
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


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
        arguments = {tensor.untyped_storage()._cdata for tensor in tensors_in((args, kwargs))}
        out = called(func, args, kwargs or {})
        for tensor in tensors_in(out):
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

    def leave_out(self, tensors: Iterable[Tensor]) -> None:
        """These tensors, which live now, count nothing, from when they were made."""
        for tensor in tensors:
            storage, _ = self._alive[tensor.untyped_storage()._cdata]
            self.sizes[storage] = 0

    def history(self) -> NDArray[np.int64]:
        """Bytes that live at first (0) and after each tensor was made or freed, (1 + number of events,)."""
        sizes = np.array(self.sizes, dtype=np.int64)
        events = np.array(self._events, dtype=np.int64).reshape(-1, 2)
        return np.concatenate([[0], np.cumsum(sizes[events[:, 0]] * events[:, 1])]).astype(np.int64)


class _Like(NamedTuple):
    """What an operation on the meta device knows of a tensor."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    def tensor(self) -> Tensor:
        """A new tensor that is like this."""
        return torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device="meta")


class _Typed(NamedTuple):
    """An argument that is no tensor; with its type, because 1 equals 1.0 but gives other results."""

    kind: type
    value: Any


class _Uncommon(Exception):
    """An argument or a result whose description cannot be a key."""


def called(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """func(*args, **kwargs), of an operation. On the meta device many are Python, and take .4 ms; but their
    results depend on shapes alone, so each is computed once and looked up from then on.
    """
    tensors = list(tensors_in((args, kwargs)))
    if not tensors or not all(tensor.is_meta for tensor in tensors) or not _gives_newtensors_in(func):
        return func(*args, **kwargs)
    try:
        described = _result(func, _described(args), _described(tuple(sorted(kwargs.items()))))
    except (_Uncommon, TypeError):  # TypeError: an argument that has no hash
        return func(*args, **kwargs)
    return _rebuilt(described)


@functools.lru_cache(4096)
def _gives_newtensors_in(func: Any) -> bool:
    """Whether no result of an operation is an argument or a view of one."""
    values = [*func._schema.arguments, *func._schema.returns]
    return all(value.alias_info is None for value in values)


@functools.lru_cache(65536)
def _result(func: Any, args: Any, kwargs: Any) -> Any:
    """The description of what an operation gives for arguments of these descriptions."""
    return _described(func(*_rebuilt(args), **dict(_rebuilt(kwargs))))


def _described(value: Any) -> Any:
    if isinstance(value, Tensor):
        return _Like(tuple(value.shape), value.stride(), value.dtype)
    if isinstance(value, list | tuple):
        return tuple(_described(each) for each in value)
    if isinstance(value, dict):
        raise _Uncommon
    return _Typed(type(value), value)


def _rebuilt(described: Any) -> Any:
    """What a description describes, with new tensors; a tuple where it was a list."""
    if isinstance(described, _Like):
        return described.tensor()
    if isinstance(described, _Typed):
        return described.value
    return tuple(_rebuilt(each) for each in described)


def tensors_in(tree: Any) -> Iterator[Tensor]:
    """The tensors in arguments or results, in lists, tuples and dictionaries of any depth."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, list | tuple):
        for each in tree:
            yield from tensors_in(each)
    elif isinstance(tree, dict):
        yield from tensors_in(list(tree.values()))
