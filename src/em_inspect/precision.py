"""Which floating-point type this machine computes fast in."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

DType = Literal["bfloat16", "float32"]

_SIZE = 256
_TURNS = 6


def fast_dtype(device: str | None = None) -> DType:
    """Return the type in which a model's arithmetic is fast on a device, and exact enough.

    A GPU computes in bfloat16 if it has it. A CPU does where a product of two matrices is faster in
    it: with instructions of its own (AMX, AVX512-BF16, Arm's bf16) it took .17 ms against .46 in
    float32, without them .9 against .33 and, on older processors, 11 against .35.

    Q: Why is that measured? A: PyTorch says that a CPU has bfloat16 where it merely emulates it,
    flags have other names on every system, and oneDNN may be told not to use what is there
    (`ONEDNN_MAX_CPU_ISA`). The two outcomes lie apart by a factor of six and more.

    Args:
        device: `cpu`, `cuda`, `cuda:1`, `mps`; None is what a model goes to by default: a GPU where
            there is one, else the CPU.
    """
    import torch

    kind = (device or _default_device()).partition(":")[0]
    if kind == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if kind == "mps":
        return "bfloat16" if torch.backends.mps.is_macos_or_newer(14, 0) else "float32"
    return _fast_on_cpu()


def _default_device() -> str:
    import torch

    if torch.backends.mps.is_available():
        return "mps"
    return "cuda" if torch.cuda.is_available() else "cpu"


@cache
def _fast_on_cpu() -> DType:
    # On a thread of its own, for the number of OpenMP threads is a thread's.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_faster).result()


def _faster() -> DType:
    import torch

    dtypes = torch.float32, torch.bfloat16
    matrices = {dtype: torch.full((_SIZE, _SIZE), 0.5, dtype=dtype) for dtype in dtypes}
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        # The first turn loads what is needed.
        turns = [{dtype: _seconds(matrices[dtype]) for dtype in dtypes} for _ in range(_TURNS)][1:]
    finally:
        torch.set_num_threads(before)
    exact, short = (min(turn[dtype] for turn in turns) for dtype in dtypes)
    return "bfloat16" if short < exact else "float32"


def _seconds(matrix: torch.Tensor) -> float:
    # Of this thread alone: other programs on the machine do not count.
    start = time.thread_time()
    matrix @ matrix
    return time.thread_time() - start
