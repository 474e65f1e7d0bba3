"""Questions with known answers become verified reasoning samples; `synth_cot.verifiers` says what a right answer is.

Importing this package loads nothing heavy: the entry point is fetched on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synth_cot.synthesize import SynthResult, synthesize

__all__ = ["SynthResult", "synthesize"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        # Through sys.modules and not `import as`: the module and its function share one name, and importing the module would
        # otherwise leave the module under it.
        import importlib

        module = importlib.import_module("synth_cot.synthesize")
        globals().update({exported: getattr(module, exported) for exported in __all__})
        return globals()[name]
    raise AttributeError(f"module 'synth_cot' has no attribute {name!r}")
