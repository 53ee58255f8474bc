"""The process's one ``openvino.Core``, with its CPU plugin loaded; it is never let go.

A plugin lends the thread that loads it a larger stack for signals, and gives back the one before when it goes. Of two
that overlap, the first to come must be the last to go: else the next signal, Ctrl-C say, is a segmentation fault.
"""

from functools import cache
from typing import Any


@cache
def kept_core(openvino: Any) -> Any:
    """The Core of the package ``openvino``, which its caller has imported."""
    core = openvino.Core()
    core.get_versions("CPU")
    return core
