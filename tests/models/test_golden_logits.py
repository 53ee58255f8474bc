"""Logits recorded from this code, so that a change of numerics shows.

``python tests/models/test_golden_logits.py`` writes them anew, from weights and images that are functions of names
and sizes (``synthetic_weights``). Evidence that the recorded ones are right: ``test_fassd_reference`` compares the
same networks with an independent implementation.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from synthetic_weights import synthetic_images, synthetic_network

from featherseg.files import atomic_write
from featherseg.models.fassd_net import VARIANTS

FILE = Path(__file__).parents[1] / "golden" / "models" / "fassd_net_family.safetensors"
CLASSES, SIZE = 2, (48, 80)
TOLERANCE = 1e-5  # of the largest logit: other processors add in another order


@torch.no_grad()
def logits_of(name):
    return synthetic_network(name, CLASSES)(synthetic_images(*SIZE)).logits


@pytest.mark.parametrize("name", VARIANTS)
def test_logits_are_the_recorded_ones(name):
    recorded = load_file(FILE)[name]
    torch.testing.assert_close(logits_of(name), recorded, rtol=0, atol=TOLERANCE * recorded.abs().max().item())


def test_the_record_says_where_it_comes_from():
    with safe_open(FILE, framework="pt") as file:
        origin = json.loads(file.metadata()["origin"])
    assert origin == {"command": "python tests/models/test_golden_logits.py", "classes": CLASSES, "size": list(SIZE)}


if __name__ == "__main__":
    origin = {"command": "python tests/models/test_golden_logits.py", "classes": CLASSES, "size": SIZE}
    content = save({name: logits_of(name) for name in VARIANTS}, {"origin": json.dumps(origin)})
    print(atomic_write(FILE, content), len(content), "bytes")
