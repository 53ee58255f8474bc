"""What the layers with compiled kernels share: when these may run, and how they see tensors.

The kernels themselves are in ``kernels.py``, which is loaded by the first training step that needs it: using a network
needs no compiler.
"""

import os
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode


def compiled_for(*tensors: Tensor) -> bool:
    """Whether compiled kernels may stand in for PyTorch's operators on these: a map ``[B, C, H, W]``, then parameters.

    So it is in training in plain PyTorch on a CPU, with a float32 or bfloat16 map that is not empty and channels_last.
    Under ``torch.compile``, ``torch.export``, tracing, function transforms and dispatch modes (counters, fake tensors)
    PyTorch's own operators are wanted.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined]
        return False
    x = tensors[0]
    return (
        torch.is_grad_enabled()
        and any(tensor.requires_grad for tensor in tensors)
        and all(type(tensor) in (Tensor, nn.Parameter) and tensor.device.type == "cpu" for tensor in tensors)
        and all(tensor.dtype in (torch.float32, torch.bfloat16) for tensor in tensors)
        and x.dim() == 4
        and x.numel() > 0
        and x.is_contiguous(memory_format=torch.channels_last)
        and _get_current_dispatch_mode() is None
        and not torch._C._are_functorch_transforms_active()
    )


def match_threads() -> None:
    """Give numba as many threads as PyTorch has, and leave PyTorch's number as it is.

    Both use one OpenMP library, and numba's first call sets its number of threads to that of the cores. By itself numba
    takes TBB where it finds one, OpenVINO's say, and a process that has used that from a second thread never ends.
    """
    import numba

    if "NUMBA_THREADING_LAYER_PRIORITY" not in os.environ:
        numba.config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]  # type: ignore[attr-defined]
    threads = torch.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def kernels() -> Any:
    """The module ``kernels``, with as many threads as PyTorch."""
    from featherseg.models import kernels as module

    match_threads()
    return module


def stored(tensor: Tensor) -> Any:
    """The array that shares a contiguous tensor's memory; bfloat16 as uint16."""
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def rows(x: Tensor) -> Tensor:
    """A map ``[B, C, H, W]`` as ``[B, H, W, C]``, contiguous: copied where it is not channels_last."""
    return x.detach().permute(0, 2, 3, 1).contiguous()
