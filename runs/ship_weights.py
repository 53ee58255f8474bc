"""Turn the weights of a run into shipped ones: half precision, with provenance and terms in the metadata.

    python runs/ship_weights.py runs/NAME/weights.safetensors fassd_net.camvid --terms "..." --provenance "..."

Writes src/featherseg/weights/NAME.TAG.safetensors. The figures of its card are then measured on the shipped file:
``featherseg eval --weights NAME.TAG --data ... --split test --card results/...``.
"""

import argparse
from pathlib import Path

from featherseg.models.weights import read_weights, save_weights

LIMIT_MB = 8.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("name", help="NETWORK.TAG, as in fassd_net.camvid")
    parser.add_argument("--terms", required=True, help="what the user may do with the weights, and why")
    parser.add_argument("--provenance", required=True, help="recipe, data, start and seed in a sentence")
    arguments = parser.parse_args()
    weights = read_weights(arguments.weights)
    metadata = weights.metadata | {"terms": arguments.terms, "provenance": arguments.provenance}
    out = Path(__file__).parents[1] / "src" / "featherseg" / "weights" / f"{arguments.name}.safetensors"
    save_weights(out, weights.tensors, metadata, half=True)
    size = out.stat().st_size / 1e6
    print(f"{out.name}: {size:.2f} MB")
    if size >= LIMIT_MB:
        out.unlink()
        raise SystemExit(f"{out.name} is {size:.2f} MB; shipped weights must stay below {LIMIT_MB} MB")


if __name__ == "__main__":
    main()
