"""Do `featherseg check` and `featherseg predict` take the same memory for 10,000 files as for 1,000?

Generates tiny images and masks in temporary folders and runs both commands, each over a tenth of the files and over as
many as asked for, as a person would: in a new process. The figure is that process's peak resident memory, as the system
accounts for it when it ends.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from featherseg.data.labels import CAMVID11
from featherseg.models.registry import create_model
from featherseg.models.weights import describe_network, save_weights
from featherseg.randomness import generator
from measuring import finish, load_average, parser

DESCRIPTION = "name: tiny\nclasses: [a, b, c]\nsplits:\n  train: {images: images, masks: masks}\n"


def write_files(folder: Path, count: int, side: int) -> None:
    """``count`` pairs of ``images/N.png`` and ``masks/N.png``, all different, and the YAML that describes them."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for index in range(count):
        random = generator(0, "benchmark", index)
        cv2.imwrite(
            str(folder / "images" / f"{index:06d}.png"), random.integers(256, size=(side, side, 3), dtype=np.uint8)
        )
        cv2.imwrite(str(folder / "masks" / f"{index:06d}.png"), random.integers(3, size=(side, side), dtype=np.uint8))
    (folder / "featherseg.yaml").write_text(DESCRIPTION)


def write_weights(path: Path, model: str) -> None:
    """Weights of a fresh network: what is predicted does not matter here."""
    network = create_model(model, len(CAMVID11))
    about = describe_network(network, model, len(CAMVID11))
    about |= {"classes": list(CAMVID11.classes), "palette": [list(colour) for colour in CAMVID11.palette]}
    save_weights(path, network.state_dict(), about)


def peak_of(command: list[str]) -> float:
    """Run ``featherseg`` with ``command`` and give its peak resident memory in MiB."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "featherseg", *command], env=environment, stdout=subprocess.DEVNULL, text=True
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"featherseg {command[0]} ended with exit code {process.returncode}: see above")
    return usage.ru_maxrss / 1024


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--files", type=int, default=10_000, help="images of the large run (default 10000)")
    arguments.add_argument("--side", type=int, default=32, help="pixels of an image's side (default 32)")
    arguments.add_argument("--model", default="fassd_net_l2", help="network that predicts (default fassd_net_l2)")
    options = arguments.parse_args()
    if options.files < 10:
        arguments.error("--files must be at least 10")
    load = load_average()
    small = options.files // 10
    figures = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = folder / "fresh.safetensors"
        write_weights(weights, options.model)
        peaks: dict[str, list[float]] = {"check": [], "predict": []}
        for count in (small, options.files):
            data = folder / str(count)
            write_files(data, count, options.side)
            peaks["check"].append(peak_of(["check", str(data)]))
            output = folder / f"predicted-{count}"
            images = str(data / "images")
            peaks["predict"].append(peak_of(["predict", images, "--weights", str(weights), "-o", str(output)]))
            print(
                f"{count} files: check {peaks['check'][-1]:.1f} MiB, predict {peaks['predict'][-1]:.1f} MiB", flush=True
            )
    for command, (few, many) in peaks.items():
        figures[f"{command}, {small} files, MiB"] = round(few, 1)
        figures[f"{command}, {options.files} files, MiB"] = round(many, 1)
        figures[f"{command}, bytes a further file"] = round((many - few) * 2**20 / (options.files - small))
    finish(
        "constant memory",
        f"{options.side}x{options.side} PNG files, peak resident memory of a new process",
        figures,
        options.card,
        load,
        seeds=[0],
    )


if __name__ == "__main__":
    main()
