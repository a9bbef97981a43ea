"""A device as Apple's is: not the CPU, and without float64. Its tensors are kept in main memory and say that they are elsewhere."""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("meta")  # it exists everywhere, and nothing is computed there
# What real devices take from the CPU: copies, and indices.
MIXING = "copy_", "to", "_to_copy", "index", "index_put_", "_index_put_impl_"


class There(torch.Tensor):
    """A tensor on the device."""

    @staticmethod
    def __new__(cls, held: torch.Tensor):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
            requires_grad=False,
        )

    def __init__(self, held: torch.Tensor):
        self.held = held

    def tolist(self):
        return self.held.tolist()

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return run(function, args, kwargs or {})


class Refusing(TorchDispatchMode):
    """Inside it the device exists."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return run(function, args, kwargs or {})


def run(function, args, kwargs):
    leaves = tree_leaves((args, kwargs))
    tensors = [one for one in leaves if isinstance(one, torch.Tensor)]
    there = [one for one in tensors if isinstance(one, There)]
    wanted = next((one for one in leaves if isinstance(one, torch.device)), None)
    name = function.overloadpacket.__name__
    if name == "_has_compatible_shallow_copy_type":  # a parameter that moves becomes a new one
        return len(there) in (0, len(tensors))
    strangers = [one for one in tensors if not isinstance(one, There) and one.ndim and one.numel()]
    if there and strangers and name not in MIXING:
        raise RuntimeError(f"{name}: tensors on two devices, {there[0].shape} and {strangers[0].shape}")
    plain_args, plain_kwargs = tree_map(plain, (args, kwargs))
    result = function(*plain_args, **plain_kwargs)
    goes = wanted == DEVICE if wanted is not None else bool(there)
    if name in ("copy_", "index_put_"):
        goes = isinstance(args[0], There)
    if name == "to" and len(tensors) > 1:
        goes = isinstance(args[1], There)
    if not goes:
        return result
    known = {id(one.held): one for one in there}

    def placed(one):
        if not isinstance(one, torch.Tensor):
            return one
        if one.dtype == torch.float64:
            raise TypeError(f"{name}: this device has no float64")
        return known[id(one)] if id(one) in known else There(one)

    return tree_map(placed, result)


def plain(value):
    """What the CPU is given in place of an argument."""
    if isinstance(value, torch.device):
        return torch.device("cpu")
    return value.held if isinstance(value, There) else value
