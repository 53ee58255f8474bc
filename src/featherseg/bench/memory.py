"""Peak memory of one contestant: a process of its own that opens it, labels three images and reads its high-water mark.

Choices worth knowing:

- The mark is the kernel's (VmHWM): no sampling can miss it, and it belongs to the process alone. Where there is none,
  ``getrusage`` of the same process stands in, and where that is missing too the figure is None.
- ``peak_mib`` is all that the process ever held: Python, PyTorch and featherseg as well. ``own_mib`` is what the mark
  rose by when the network was opened and run, its runtime's library included. On a GPU ``device_mib`` is what PyTorch
  held there.
- It is measured when nothing is timed, and with the threads of the run.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

IMAGES = 3
MODULE = "featherseg.bench.memory"


def high_water_mib() -> float | None:
    """The most memory that this process ever had resident, in MiB."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return None
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 2**20 if sys.platform == "darwin" else used / 1024


def peak_memory(order: dict[str, Any], *, timeout: float = 600.0) -> dict[str, Any]:
    """What :func:`run_once` found in a new process: ``{"peak_mib", "own_mib", "device_mib"}``, and ``"error"``.

    Args:
        order: as :func:`run_once` takes it.
        timeout: seconds after which the process is ended.
    """
    nothing = {"peak_mib": None, "own_mib": None, "device_mib": None}
    command = [sys.executable, "-m", MODULE, json.dumps(order)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except (OSError, subprocess.TimeoutExpired) as error:
        return nothing | {"error": f"{type(error).__name__} after {timeout:.0f} s"}
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        return nothing | {"error": said[-1] if said else f"exit code {done.returncode}"}
    return json.loads(done.stdout.splitlines()[-1])


def run_once(order: dict[str, Any]) -> dict[str, float | None]:
    """Open a contestant in this process, let it label some images, and read the marks.

    Args:
        order: ``source`` (a name or weights) with ``runtime`` and ``precision``, or ``file`` with ``precision``;
            ``size`` [H, W], ``threads``, ``device``, and perhaps ``classes``.
    """
    import torch

    from featherseg.bench.contestants import Way, open_file, open_network, sources
    from featherseg.randomness import generator

    torch.set_num_threads(order["threads"])
    image = generator(0, "memory").integers(0, 256, (*order["size"], 3)).astype("uint8")
    before = high_water_mib()
    if "file" in order:
        opened = open_file(
            order["file"],
            order["precision"],
            threads=order["threads"],
            device=order["device"],
            classes=order.get("classes"),
        )
    else:
        (source,) = sources([order["source"]])
        opened = open_network(source, Way(order["runtime"], order["precision"]), device=order["device"])
    contestant = opened.contestant(image)
    for _ in range(IMAGES):
        contestant.run()
    after = high_water_mib()
    on_device = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None
    return {
        "peak_mib": _rounded(after),
        "own_mib": None if after is None or before is None else _rounded(after - before),
        "device_mib": _rounded(on_device),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


if __name__ == "__main__":
    print(json.dumps(run_once(json.loads(sys.argv[1]))))
