"""How long `import featherseg` and `featherseg --help` take.

Each is a new Python process, started and waited for; beside them stand an empty Python program, which nothing can beat,
and `import torch`, which a careless import would cost. The rounds are interleaved; a first one, which fills the file
cache, is not counted. Seconds of whole processes: interpreter start included.
"""

import subprocess
import sys
import time
from collections.abc import Callable

from measuring import finish, interleaved, load_average, parser, summary

COMMANDS = {
    "empty program": ["-c", "pass"],
    "import featherseg": ["-c", "import featherseg"],
    "featherseg --help": ["-m", "featherseg", "--help"],
    "import torch": ["-c", "import torch"],
}


def timed(arguments: list[str]) -> Callable[[], float]:
    """A function that runs Python with ``arguments`` and gives the seconds it took."""

    def measure() -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began

    return measure


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--rounds", type=int, default=7, help="runs of each program (default 7)")
    options = arguments.parse_args()
    load = load_average()
    contestants = {name: timed(command) for name, command in COMMANDS.items()}
    interleaved(contestants, 1)
    seconds = interleaved(contestants, options.rounds, print)
    figures = {f"{name}, s": summary(values) for name, values in seconds.items()}
    finish("import time", "new process, median of interleaved runs", figures, options.card, load, rounds=options.rounds)


if __name__ == "__main__":
    main()
