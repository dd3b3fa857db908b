"""An accelerator that is not there: its tensors say where they lie, compute on the CPU, and refuse to meet CPU tensors.

`fake_device` runs a block in which the device "meta" stands for a GPU (CUDA's own name asks the driver before anything
can step in between). What a GPU would refuse (operands on two devices) raises, and every point at which the host waits
for the device (``.item()``, ``.cpu()``, ``nonzero``, a truth value) is noted by its operator, so that a test can count
them. Values are real: results can be compared with the CPU's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("meta")
WAITS = {"_local_scalar_dense", "nonzero", "is_nonzero", "equal", "_unique2", "masked_select", "_linalg_eigh"}
"""Operators whose result (or, of the decompositions, whose status) the host has to read back before it can go on."""
MIXED = {"index.Tensor", "index_put_.default", "index_put.default", "_index_put_impl_.default"}
"""Operators that take CPU indices for a tensor on a device (each of them is a copy, and counted as one)."""


class OnDevice(Tensor):
    """A tensor that says it lies on the device; ``inner`` has the values."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> OnDevice:
        out: OnDevice = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, inner.size(), inner.stride(), inner.storage_offset(), None, inner.dtype, inner.layout, DEVICE
        )
        out.inner = inner
        return out

    def __repr__(self, **_: object) -> str:
        return f"OnDevice({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{function}: a tensor of the fake device left its block")


def _is_fake(device: object) -> bool:
    return device is not None and torch.device(device).type == DEVICE.type  # type: ignore[call-overload]


class _Dispatch(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = function.__name__.split(".")[0]
        tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)]
        here = [t for t in tensors if isinstance(t, OnDevice)]
        target = kwargs.get("device")
        moves = name in ("_to_copy", "to", "copy_", "_copy_from")
        if here and not moves and function.__name__ not in MIXED:
            strangers = [t for t in tensors if not isinstance(t, OnDevice) and t.dim() > 0]
            if strangers:
                raise RuntimeError(f"{function.__name__}: operands on two devices, the fake one and the CPU")
        if "device" in kwargs:
            kwargs["device"] = torch.device("cpu") if target is not None else None
        if kwargs.get("pin_memory"):
            kwargs["pin_memory"] = False
        leaves = name == "_to_copy" and target is not None and not _is_fake(target) and here
        if (name in WAITS and here) or leaves or (name == "copy_" and here and not isinstance(args[0], OnDevice)):
            self.waits.append(function.__name__)
        if name in ("_pin_memory", "pin_memory"):
            return args[0]
        if name == "is_pinned":
            return False
        unwrapped = tree_map(lambda t: t.inner if isinstance(t, OnDevice) else t, (args, kwargs))
        out = function(*unwrapped[0], **unwrapped[1])
        on_device = (bool(here) and not leaves and name != "copy_") or _is_fake(target)
        if name == "copy_" or (
            function.__name__.split(".")[0].endswith("_") and here and isinstance(args[0], OnDevice)
        ):
            return args[0]
        if not on_device:
            return out
        return tree_map(lambda t: OnDevice(t) if isinstance(t, Tensor) and not isinstance(t, OnDevice) else t, out)


class _Functions(TorchFunctionMode):
    """What PyTorch would ask the driver before any operator runs: to make, to move, to choose a kernel."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function is torch.nn.functional.scaled_dot_product_attention and args[0].device.type == DEVICE.type:
            return _attention(*args, **kwargs)
        if function is Tensor.pin_memory:
            return args[0]
        if function is Tensor.to:
            return self._moved(*args, **kwargs)
        if _is_fake(kwargs.get("device")) and not any(isinstance(a, OnDevice) for a in args):
            made = function(*args, **{**kwargs, "device": "cpu"})
            return OnDevice(made) if isinstance(made, Tensor) else made
        return function(*args, **kwargs)

    def _moved(self, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """``to``: the copy to the device is made here, the rest is left to the operators."""
        places = [a for a in (*args, kwargs.get("device")) if isinstance(a, (str, torch.device))]
        others = [a.device for a in args if isinstance(a, Tensor)]
        wanted = next(iter([*places, *others]), None)
        if wanted is None or not _is_fake(wanted):
            return Tensor.to(tensor, *args, **kwargs)
        rest = [a for a in args if isinstance(a, torch.dtype)]
        rest += [kwargs["dtype"]] if kwargs.get("dtype") is not None else []
        if isinstance(tensor, OnDevice):
            return tensor if not rest else Tensor.to(tensor, rest[0])
        return _Leave.apply(tensor if not rest else tensor.to(rest[0]))


class _Leave(torch.autograd.Function):
    """The copy to the device; its gradient comes back to the CPU."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return OnDevice(tensor.detach().clone())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad.inner if isinstance(grad, OnDevice) else grad


def _attention(
    q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0, is_causal: bool = False,
    **_: object,
) -> Tensor:  # fmt: skip
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    if is_causal:
        hidden = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(hidden, float("-inf"))
    if attn_mask is not None:
        bias = scores.new_zeros(()) if attn_mask.dtype == torch.bool else attn_mask
        scores = scores.masked_fill(~attn_mask, float("-inf")) if attn_mask.dtype == torch.bool else scores + bias
    return scores.softmax(-1) @ v


@contextmanager
def fake_device() -> Iterator[list[str]]:
    """A block with the fake device; yields the operators at which the host waited for it, as they come."""
    dispatch = _Dispatch()
    real = torch.autocast

    def autocast(device_type: str, *args: Any, **kwargs: Any) -> Any:
        return nullcontext() if device_type == DEVICE.type else real(device_type, *args, **kwargs)

    with (
        mock.patch.object(torch, "autocast", autocast),
        mock.patch.object(torch, "inference_mode", torch.no_grad),  # views of wrapped tensors know no such mode
        dispatch,
        _Functions(),
    ):
        yield dispatch.waits
