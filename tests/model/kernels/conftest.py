"""Two mistakes of Triton's interpreter are mended here. It multiplies bfloat16 numbers as the integers that it keeps them
in: they are widened first. Up to 3.6 it makes a number of an array of one value, which numpy refuses from 2.4 on.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# The modules that the GPU benchmark is made of are tested too.
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks"))


@pytest.fixture(autouse=True, scope="session")
def _products_of_bfloat16():
    if os.environ.get("TRITON_INTERPRET") != "1":
        yield
        return
    import triton.language as tl
    from triton.runtime import interpreter
    from triton.runtime.interpreter import InterpreterBuilder

    narrow = InterpreterBuilder.create_dot

    def create_dot(self, a, b, *others):
        a, b = (self.cast_impl(x, tl.float32) if x.dtype.scalar == tl.bfloat16 else x for x in (a, b))
        return narrow(self, a, b, *others)

    def patch_tensor(tensor, *scope):
        patched = patch_whole(tensor, *scope)
        tensor.__index__ = lambda self: int(self.handle.data.item())
        return patched

    patch_whole = interpreter._patch_lang_tensor
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InterpreterBuilder, "create_dot", create_dot)
        patch.setattr(interpreter, "_patch_lang_tensor", patch_tensor)
        yield
