"""A stand-in for a GPU: tensors on a device of their own, which computes on the CPU and refuses what CUDA refuses.

`on_standin()` makes the device `standin:0` available to code that runs inside. It

- refuses operands on two devices, except what CUDA allows: CPU tensors without dimensions, CPU indices, and copies;
- refuses generators of another device;
- with `torch.use_deterministic_algorithms`, refuses what the documentation of that function lists;
- refuses indexing, sorting and arithmetic with unsigned types above eight bits, which CUDA does not implement;
- counts how often a program would wait for a GPU: see `WAITS`.

PyTorch itself refuses `Tensor.numpy()`. A tensor that claimed to be on `cuda` would not do: in a build without CUDA,
autograd aborts, because there is no device guard. Three things had to be worked around. `torch.inference_mode` cannot
wrap results of a tensor subclass, so that it only switches gradients off. Fused attention knows no such device, so that
the plain implementation is selected. And `Module.to` makes new parameters instead of replacing the data of old ones.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend("standin")
DEVICE, CPU = torch.device("standin", 0), torch.device("cpu")
WIDE_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)
# What may be done with every type of number.
MOVES = {
    *("aten::alias", "aten::clone", "aten::copy_", "aten::detach", "aten::empty_like", "aten::lift_fresh"),
    *("aten::select", "aten::set_", "aten::slice", "aten::split", "aten::view"),
}
FACTORIES = {
    *("arange", "as_tensor", "empty", "eye", "full", "linspace", "ones", "rand", "randint", "randn", "tensor", "zeros"),
    *("empty_like", "full_like", "ones_like", "rand_like", "randn_like", "zeros_like", "empty_strided"),
    *("scalar_tensor", "tril_indices", "triu_indices"),
}
# Operations that return something whose size or value the CPU must know, so that it waits for the GPU.
WAITING = {
    *("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::bincount", "aten::equal"),
    *("aten::is_nonzero", "aten::_unique", "aten::_unique2", "aten::unique_dim", "aten::unique_consecutive"),
}
# How often a program would have waited, by operation. `copy`: to the CPU, or from it without `non_blocking`.
WAITS: Counter[str] = Counter()
OPERATIONS: Counter[str] = Counter()  # how often each operation ran on the device
COPIED: Counter[str] = Counter()  # bytes, `to device` and `to cpu`

Arguments = Sequence[Any]
Keywords = dict[str, Any]


def _is_float(args: Arguments, _keywords: Keywords) -> bool:
    return bool(args[0].is_floating_point() or args[0].is_complex())


def _always(_args: Arguments, _keywords: Keywords) -> bool:
    return True


# What raises an error in deterministic mode, by its name in the documentation: operations of PyTorch's core, and when.
# An empty tuple: no language model uses it, so that the stand-in need not know it.
NONDETERMINISTIC: dict[str, tuple[tuple[str, Callable[[Arguments, Keywords], bool]], ...]] = {
    "torch.nn.AvgPool3d": (),
    "torch.nn.AdaptiveAvgPool2d": (),
    "torch.nn.AdaptiveAvgPool3d": (),
    "torch.nn.AdaptiveMaxPool2d": (),
    "torch.nn.FractionalMaxPool2d": (),
    "torch.nn.FractionalMaxPool3d": (),
    "torch.nn.MaxUnpool1d": (),
    "torch.nn.MaxUnpool2d": (),
    "torch.nn.MaxUnpool3d": (),
    "torch.nn.functional.interpolate": (),
    "torch.nn.ReflectionPad1d": (),
    "torch.nn.ReflectionPad2d": (),
    "torch.nn.ReflectionPad3d": (),
    "torch.nn.NLLLoss": (("aten::nll_loss2d_forward", _always),),  # losses of single tokens are deterministic
    "torch.nn.CTCLoss": (),
    "torch.nn.EmbeddingBag": (),
    "torch.Tensor.put_": (("aten::put_", _always), ("aten::put", _always)),
    "torch.histc": (("aten::histc", _always),),
    "torch.bincount": (
        ("aten::bincount", lambda args, keywords: (args[1] if len(args) > 1 else keywords.get("weights")) is not None),
    ),
    "torch.median": (("aten::median", lambda args, _: len(args) > 1),),
    "torch.nn.functional.grid_sample": (),
    "torch.cumsum": (("aten::cumsum", _is_float), ("aten::cumsum_", _is_float)),
    "torch.Tensor.scatter_reduce": (
        ("aten::scatter_reduce", lambda args, _: args[4] == "prod"),
        ("aten::scatter_reduce_", lambda args, _: args[4] == "prod"),
    ),
    "torch.Tensor.resize_": (),
}
REFUSED = {operation: (name, applies) for name, known in NONDETERMINISTIC.items() for operation, applies in known}


def documented_nondeterministic() -> set[str]:
    """Return the operations that raise in deterministic mode, by the documentation of the installed version."""
    document = torch.use_deterministic_algorithms.__doc__ or ""
    section = re.search(
        r"will throw a\s+:class:`RuntimeError` when ``mode=True``:(.*?)In addition", document, re.DOTALL
    )
    assert section
    return set(re.findall(r"^ *\* :\w+:`([\w.]+)`", section[1], re.MULTILINE))


class OnDevice(Tensor):
    """A tensor on the stand-in; `on_cpu` is the CPU tensor that it computes with."""

    on_cpu: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, on_cpu: Tensor) -> "OnDevice":
        wrapper: OnDevice = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            on_cpu.size(),
            strides=on_cpu.stride(),
            storage_offset=on_cpu.storage_offset(),
            dtype=on_cpu.dtype,
            layout=on_cpu.layout,
            device=DEVICE,
            requires_grad=False,
        )
        wrapper.on_cpu = on_cpu
        return wrapper

    def __init__(self, on_cpu: Tensor) -> None:
        """Keep `on_cpu`, as set by `__new__`."""

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Check an operation as CUDA does, and compute it on the CPU."""
        kwargs = dict(kwargs or {})
        name = func._schema.name
        OPERATIONS[name] += 1
        tensors = list(_tensors((*args, *kwargs.values())))
        ours = [value for value in tensors if isinstance(value, OnDevice)]
        if name in ("aten::_to_copy", "aten::to"):
            return _convert(func, args, kwargs)
        _check_devices(name, args, kwargs, tensors, ours)
        _check_operation(name, args, kwargs, ours)
        _count_waits(name, args, kwargs)
        if name == "aten::_fused_sdp_choice":
            return 0  # the plain implementation
        if _is_standin(kwargs.get("device")):
            kwargs["device"] = CPU
        out = func(*_map(_unwrap, args), **{key: _unwrap(value) for key, value in kwargs.items()})
        if name.endswith("_") and isinstance(args[0], OnDevice) and name != "aten::set_":
            return args[0]
        if name == "aten::copy_":  # from the device to the CPU
            return args[0]
        known = {id(value.on_cpu): value for value in ours}
        return _map(lambda value: known.get(id(value)) if id(value) in known else _wrap(value), out)


def _tensors(values: Arguments) -> Iterator[Tensor]:
    """Yield the tensors in arguments and in lists of tensors."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _map(function: Callable[[Any], Any], value: Any) -> Any:
    """Return the results of a function for a value, or for each of a list or tuple."""
    if isinstance(value, list | tuple):
        return type(value)([_map(function, each) for each in value])
    return function(value)


def _wrap(value: Any) -> Any:
    return OnDevice(value) if isinstance(value, Tensor) and not isinstance(value, OnDevice) else value


def _unwrap(value: Any) -> Any:
    if isinstance(value, OnDevice):
        return value.on_cpu
    return CPU if _is_standin(value) else value


def _is_standin(device: object) -> bool:
    return (isinstance(device, torch.device) and device.type == "standin") or (
        isinstance(device, str) and device.startswith("standin")
    )


def _convert(func: Any, args: Any, kwargs: Keywords) -> Any:
    """Convert a tensor to another device, number type or both."""
    source, target = args[0], kwargs.get("device")
    if isinstance(source, OnDevice) and target is not None and not _is_standin(target):
        WAITS["copy"] += 1
    to_device = _is_standin(target) or (target is None and isinstance(source, OnDevice))
    if to_device and not isinstance(source, OnDevice) and not kwargs.get("non_blocking"):
        WAITS["copy"] += 1
    out = func(_unwrap(source), *args[1:], **kwargs | {"device": CPU})
    if isinstance(source, OnDevice) != to_device:
        COPIED["to device" if to_device else "to cpu"] += out.nbytes
    return OnDevice(out) if to_device else out


def _check_devices(name: str, args: Any, kwargs: Keywords, tensors: list[Tensor], ours: list[OnDevice]) -> None:
    """Raise an error for operands on two devices, or for a generator of another device."""
    stray = [value for value in tensors if not isinstance(value, OnDevice) and value.dim() > 0]
    takes_cpu_indices = name.startswith(("aten::index", "aten::_index_put")) and isinstance(args[0], OnDevice)
    if ours and stray and name != "aten::copy_" and not takes_cpu_indices:
        shapes = [tuple(value.shape) for value in stray]
        raise RuntimeError(f"{name}: expected all tensors on one device, but found {DEVICE} and cpu {shapes}")
    on_device = bool(ours) or _is_standin(kwargs.get("device"))
    if on_device and isinstance(kwargs.get("generator"), torch.Generator):
        raise RuntimeError(f"{name}: expected a generator on {DEVICE}, but found one on {kwargs['generator'].device}")


def _check_operation(name: str, args: Any, kwargs: Keywords, ours: list[OnDevice]) -> None:
    """Raise an error for what CUDA does not implement, or not deterministically."""
    wide = [value.dtype for value in ours if value.dtype in WIDE_UNSIGNED]
    if wide and name not in MOVES:
        raise RuntimeError(f'"{name}" is not implemented for {wide[0]} on CUDA')
    documented, applies = REFUSED.get(name, ("", None))
    if applies and torch.are_deterministic_algorithms_enabled() and applies(args, kwargs):
        raise RuntimeError(f"{name} does not have a deterministic implementation on CUDA ({documented})")


def _count_waits(name: str, args: Any, kwargs: Keywords) -> None:
    """Count an operation for which a program would wait for a GPU."""
    has_unknown_size = name == "aten::repeat_interleave" and kwargs.get("output_size") is None
    if name in WAITING or has_unknown_size:
        WAITS[name] += 1
    elif name == "aten::index":
        indices = [value for value in args[1] if isinstance(value, Tensor)]
        WAITS[name] += any(value.dtype in (torch.bool, torch.uint8) for value in indices)
        WAITS["copy"] += any(not isinstance(value, OnDevice) for value in indices)
    elif name == "aten::copy_" and isinstance(args[0], OnDevice) != isinstance(args[1], OnDevice):
        asynchronous = (args[2] if len(args) > 2 else kwargs.get("non_blocking")) and isinstance(args[0], OnDevice)
        WAITS["copy"] += not asynchronous


class _ToDevice(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> OnDevice:  # noqa: ARG004 - the interface of torch
        return OnDevice(value.detach().clone())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004 - the interface of torch
        return gradient.on_cpu if isinstance(gradient, OnDevice) else gradient


class _FunctionMode(TorchFunctionMode):
    """Catch what Python code calls with a device: factories, `Tensor.to` and `Tensor.new_tensor`."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name == "to" and args and isinstance(args[0], Tensor):
            return self._to(func, args[0], list(args[1:]), kwargs)
        if name == "tolist" and isinstance(args[0], OnDevice):
            WAITS["copy"] += 1
            return args[0].on_cpu.tolist()
        if name == "new_tensor" and isinstance(args[0], OnDevice):
            WAITS["copy"] += 1
            return OnDevice(torch.tensor(args[1], dtype=kwargs.get("dtype", args[0].dtype)))
        if name in FACTORIES and _is_standin(kwargs.get("device")):
            if isinstance(kwargs.get("generator"), torch.Generator):
                raise RuntimeError(f"torch.{name}: expected a generator on {DEVICE}, but found one on the CPU")
            WAITS["copy"] += name in ("tensor", "as_tensor")
            kwargs["device"] = CPU
            return OnDevice(func(*map(_unwrap, args), **kwargs))
        return func(*args, **kwargs)

    def _to(self, func: Any, source: Tensor, rest: list[Any], kwargs: Keywords) -> Any:
        device = kwargs.get("device")
        for index, value in enumerate(rest):
            if _is_standin(value):
                device = rest.pop(index)
                break
            if isinstance(value, OnDevice):
                device, rest[index] = DEVICE, value.dtype
                break
        if not _is_standin(device):
            return func(source, *rest, **kwargs)
        options = {key: value for key, value in kwargs.items() if key == "dtype"}
        rest = [value for value in rest if isinstance(value, torch.dtype)]
        if isinstance(source, OnDevice):
            return func(source, *rest, **options) if rest or options else source
        WAITS["copy"] += not kwargs.get("non_blocking")
        COPIED["to device"] += source.nbytes
        converted = Tensor.to(source, *rest, **options) if rest or options else source
        with torch._C.DisableTorchFunction():
            return _ToDevice.apply(converted)


class _DispatchMode(TorchDispatchMode):
    """Catch factories that are called inside PyTorch's own code, such as masks of attention."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if any(isinstance(value, OnDevice) for value in _tensors((*args, *kwargs.values()))):
            return OnDevice.__torch_dispatch__(func, types, args, kwargs)
        if _is_standin(kwargs.get("device")):
            if func._schema.name in ("aten::_to_copy", "aten::to"):
                return _convert(func, args, kwargs)
            return _map(_wrap, func(*args, **kwargs | {"device": CPU}))
        return func(*args, **kwargs)


def _device_module() -> ModuleType:
    """Return what `torch.get_device_module("standin")` returns; random numbers come from the CPU's generator."""
    module = torch.get_device_module(DEVICE)
    module.get_rng_state = lambda *_: torch.get_rng_state()  # type: ignore[attr-defined]
    module.set_rng_state = lambda state, *_: torch.set_rng_state(state)  # type: ignore[attr-defined]
    module.synchronize = lambda *_: WAITS.update(["synchronize"])  # type: ignore[attr-defined]
    return module


@contextmanager
def on_standin() -> Iterator[torch.device]:
    """Make the stand-in the GPU that `compute.device: cuda` and `auto` select, and yield it."""

    def enter(self: Any) -> None:
        self.gradients = torch.is_grad_enabled()
        torch.set_grad_enabled(self.gradients and not self.mode)

    def leave(self: Any, *_: object) -> None:
        torch.set_grad_enabled(self.gradients)

    _device_module()
    overwrites = torch.__future__.get_overwrite_module_params_on_conversion()
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    WAITS.clear()
    with ExitStack() as stack:
        for target, name, value in (
            (torch.inference_mode, "__enter__", enter),
            (torch.inference_mode, "__exit__", leave),
            (torch.cuda, "is_available", lambda: True),
        ):
            stack.enter_context(patch.object(target, name, value))
        stack.enter_context(patch("stages.core.device._cuda_device", lambda: DEVICE))
        stack.enter_context(_FunctionMode())
        stack.enter_context(_DispatchMode())
        try:
            yield DEVICE
        finally:
            torch.__future__.set_overwrite_module_params_on_conversion(overwrites)
            torch.use_deterministic_algorithms(deterministic)
