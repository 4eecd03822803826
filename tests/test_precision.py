"""The floating-point type of a machine: by what it is fast in, whatever PyTorch accepts."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

CODE = "from em_inspect.precision import fast_dtype; print(fast_dtype('cpu'))"


def chosen(**variables: str) -> str:
    named = {k: v for k, v in os.environ.items() if not k.endswith("_MAX_CPU_ISA")}
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env=named | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def flags() -> set[str]:
    """What the system says of the processor."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        pytest.skip("only Linux lists the processor's instructions")
    lines = (line.partition(":") for line in text.splitlines())
    return {flag for name, _, value in lines if name.strip() == "flags" for flag in value.split()}


x86 = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="these flags and masks are of x86"
)


@x86
def test_a_processor_with_instructions_for_bfloat16_computes_in_it_and_no_other() -> None:
    native = bool(flags() & {"amx_bf16", "avx512_bf16"})
    assert chosen() == ("bfloat16" if native else "float32")


@x86
@pytest.mark.parametrize("mask", ["AVX512_CORE", "AVX2"])
def test_instructions_that_may_not_be_used_do_not_count(mask: str) -> None:
    assert chosen(ONEDNN_MAX_CPU_ISA=mask) == "float32"


def test_a_gpu_computes_in_bfloat16_where_it_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from em_inspect.precision import fast_dtype

    seen: list[bool] = []

    def supported(including_emulation: bool = True) -> bool:
        seen.append(including_emulation)
        return False

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert fast_dtype("cuda:0") == "float32"
    assert seen == [False]  # emulation does not count
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert fast_dtype("cuda") == "bfloat16"


def test_the_number_of_threads_stays_as_it_was() -> None:
    import torch

    from em_inspect.precision import fast_dtype

    before = torch.get_num_threads()
    fast_dtype("cpu")
    assert torch.get_num_threads() == before
