"""An accelerator that is not there: its tensors say where they lie, compute on the CPU, and refuse to meet CPU tensors.

`fake_device` runs a block in which the device "meta" stands for a GPU (CUDA's own name asks the driver before anything
can step in between). What a GPU would refuse (operands on two devices) raises, and `Seen` notes, by its operator, every
point at which the host waits for the device (``.item()``, ``.cpu()``, ``nonzero``, a truth value) and every copy, so
that a test can count them. Values are real: results can be compared with the CPU's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("meta")
WAITS = {
    "_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "repeat_interleave", "bincount",
    "_unique2", "unique_consecutive", "unique_dim", "unique_dim_consecutive",
    "_linalg_eigh", "_linalg_svd", "linalg_eig", "linalg_lstsq", "_linalg_check_errors",
}  # fmt: skip
"""Operators whose result, or its size, or (of the decompositions) status the host has to read before it can go on."""
COPIES = {"_to_copy", "copy_"}
INDEXING = {"index", "index_put_", "index_put", "_index_put_impl_"}
"""Operators that copy CPU indices to their tensor's device, and read back how much a mask there chooses."""


class _Named(str):
    """A device's name with what is asked of `torch.device`."""

    type = "cuda"


CUDA: Any = _Named("meta")
"""The same device for an encoder: who asks is told that it is CUDA's, so that what is done for CUDA alone is done."""


@dataclass
class Seen:
    """What passed between the host and the device, by operator, in its order.

    Attributes:
        waits: the host waited for a result; a copy to the CPU that blocks is one.
        sent: copies to the device that block; each index on the CPU for a tensor on the device is one.
        sent_ahead, read_ahead: copies to the device and to the CPU for which the host did not wait.
    """

    waits: list[str] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    sent_ahead: list[str] = field(default_factory=list)
    read_ahead: list[str] = field(default_factory=list)

    def clear(self) -> None:
        """Forget what was seen so far."""
        for names in (self.waits, self.sent, self.sent_ahead, self.read_ahead):
            names.clear()


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


def _tensors(values: object) -> list[Tensor]:
    return [t for t in tree_flatten(values)[0] if isinstance(t, Tensor)]


def _refuse_two_devices(function: Any, tensors: Sequence[Tensor]) -> None:
    """Raise where a CPU tensor is among tensors of the device; numbers may be."""
    here = [isinstance(t, OnDevice) for t in tensors]
    if any(here) and any(t.dim() and not placed for t, placed in zip(tensors, here, strict=True)):
        raise RuntimeError(f"{function.__name__}: operands on two devices, the fake one and the CPU")


class _Dispatch(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen = Seen()
        self._coming: list[tuple[Tensor, Tensor]] = []

    def waited(self, name: str) -> None:
        """The host waited: what was on its way to the CPU is there."""
        self.seen.waits.append(name)
        for place, values in self._coming:
            place.copy_(values)
        self._coming.clear()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = function.__name__.split(".")[0]
        if name in ("_pin_memory", "pin_memory"):
            return args[0]
        if name == "is_pinned":
            return False
        tensors, target = _tensors((args, kwargs)), kwargs.get("device")
        here = any(isinstance(t, OnDevice) for t in tensors)
        if name in INDEXING:
            self._indexed(function, *args[:3])
        elif name not in COPIES:
            _refuse_two_devices(function, tensors)
        if here and name in WAITS and kwargs.get("output_size") is None:
            self.waited(function.__name__)
        if target is not None:
            kwargs["device"] = torch.device("cpu")
        if kwargs.get("pin_memory"):
            kwargs["pin_memory"] = False
        unwrapped = tree_map(lambda t: t.inner if isinstance(t, OnDevice) else t, (args, kwargs))
        out = function(*unwrapped[0], **unwrapped[1])
        if name == "copy_":
            ahead = bool(kwargs.get("non_blocking", args[2] if len(args) > 2 else False))
            self._copied(function, args[1], isinstance(args[0], OnDevice), ahead, unwrapped[0][0])
            return args[0]
        if name == "_to_copy" and target is not None:
            self._copied(function, args[0], _is_fake(target), bool(kwargs.get("non_blocking")), out)
        if name.endswith("_") and here and isinstance(args[0], OnDevice):
            return args[0]
        if not (here if target is None else _is_fake(target)):
            return out
        return tree_map(lambda t: OnDevice(t) if isinstance(t, Tensor) and not isinstance(t, OnDevice) else t, out)

    def _copied(self, function: Any, source: Tensor, to_device: bool, ahead: bool, out: Tensor) -> None:
        """Note a copy; what comes ahead of the host is not there until the host waits: numbers that are none."""
        if isinstance(source, OnDevice) == to_device:
            return
        if to_device:
            (self.seen.sent_ahead if ahead else self.seen.sent).append(function.__name__)
        elif ahead:
            self.seen.read_ahead.append(function.__name__)
            self._coming.append((out, out.clone()))
            out.fill_(torch.nan if out.is_floating_point() else torch.iinfo(torch.int8).min)
        else:
            self.waited(function.__name__)

    def _indexed(self, function: Any, tensor: Tensor, indices: Sequence[Tensor | None], values: object = None) -> None:
        """Note what indexing a tensor costs, and raise where a GPU would."""
        chosen = [index for index in indices if index is not None]
        _refuse_two_devices(function, [tensor, *_tensors(values)])
        if not isinstance(tensor, OnDevice):
            _refuse_two_devices(function, [tensor, *chosen])
            return
        for index in chosen:
            if not isinstance(index, OnDevice):
                self.seen.sent.append(function.__name__)
            elif index.dtype in (torch.bool, torch.uint8):
                self.waited(function.__name__)


class _Functions(TorchFunctionMode):
    """What PyTorch would ask the driver before any operator runs: to make, to move, to choose a kernel."""

    def __init__(self, dispatch: _Dispatch) -> None:
        super().__init__()
        self._dispatch = dispatch

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function is torch.nn.functional.scaled_dot_product_attention and args[0].device.type == DEVICE.type:
            return _attention(*args, **kwargs)
        if function is Tensor.pin_memory:
            return args[0]
        if function is Tensor.to:
            return self._moved(*args, **kwargs)
        if function is Tensor.tolist and isinstance(args[0], OnDevice):
            return args[0].cpu().tolist()
        if _is_fake(kwargs.get("device")) and not any(isinstance(a, OnDevice) for a in args):
            made = function(*args, **{**kwargs, "device": "cpu"})
            if function in (torch.tensor, torch.as_tensor, torch.asarray):
                self._dispatch.seen.sent.append(function.__name__)
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
        ahead = kwargs.get("non_blocking", next((a for a in args if isinstance(a, bool)), False))
        (self._dispatch.seen.sent_ahead if ahead else self._dispatch.seen.sent).append("to")
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
    scale: float | None = None, **_: object,
) -> Tensor:  # fmt: skip
    scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        hidden = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(hidden, float("-inf"))
    if attn_mask is not None:
        bias = scores.new_zeros(()) if attn_mask.dtype == torch.bool else attn_mask
        scores = scores.masked_fill(~attn_mask, float("-inf")) if attn_mask.dtype == torch.bool else scores + bias
    return scores.softmax(-1) @ v


@contextmanager
def fake_device() -> Iterator[Seen]:
    """A block with the fake device; yields what passes between the host and it, as it comes."""
    dispatch = _Dispatch()
    real = torch.autocast

    def autocast(device_type: str, *args: Any, **kwargs: Any) -> Any:
        fake = device_type in (DEVICE.type, CUDA.type)
        return nullcontext() if fake else real(device_type, *args, **kwargs)

    with (
        mock.patch.object(torch, "autocast", autocast),
        # Views of wrapped tensors know no inference mode; functions that it decorates ask here too.
        mock.patch.object(torch._C, "_InferenceMode", lambda mode: torch.no_grad() if mode else nullcontext()),
        mock.patch.object(torch.cuda, "synchronize", lambda device=None: dispatch.waited("synchronize")),
        dispatch,
        _Functions(dispatch),
    ):
        yield dispatch.seen
