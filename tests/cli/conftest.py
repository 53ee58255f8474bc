"""A small data set, a recipe for it and weights, for the commands' tests."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from featherseg.models.registry import create_model
from featherseg.models.weights import describe_network, save_weights

CLASSES = ("ground", "thing", "rare")


@pytest.fixture(scope="session")
def small_data(tmp_path_factory) -> Path:
    """images/SPLIT, masks/SPLIT and classes.txt: three images of 32x48 a split, none twice."""
    root = tmp_path_factory.mktemp("data") / "small"
    generator = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for number in range(3):
            mask = np.zeros((32, 48), np.uint8)
            mask[10:20, 5 + 7 * number : 20 + 7 * number], mask[25:, 40:], mask[0] = 1, 2, 255
            image = generator.integers(0, 60, (32, 48, 3), np.uint8) + 60 * (mask % 5)[..., None]
            for kind, picture in (("images", image.astype(np.uint8)), ("masks", mask)):
                (root / kind / split).mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(root / kind / split / f"{number}.png")
    (root / "classes.txt").write_text("\n".join(CLASSES))
    return root


@pytest.fixture(scope="session")
def small_recipe(tmp_path_factory, small_data) -> Path:
    """Three steps on the small data."""
    path = tmp_path_factory.mktemp("recipe") / "small.yaml"
    path.write_text(
        f"name: small\nmodel: {{name: fassd_net_l2}}\ndata: {{source: {small_data}}}\naugment: {{crop: [32, 48]}}\n"
        "train: {steps: 3, batch_size: 2, drop_last: true, precision: fp32, workers: 0, log_every: 1, device: cpu}\n"
    )
    return path


@pytest.fixture(scope="session")
def small_weights(tmp_path_factory) -> Path:
    """fassd_net_l2 with fresh weights and the classes of the small data."""
    torch.manual_seed(0)
    network = create_model("fassd_net_l2", len(CLASSES))
    about = describe_network(network, "fassd_net_l2", len(CLASSES)) | {
        "classes": list(CLASSES),
        "task": "segmentation",
        "trained_on": "small/48x32/train",
        "recipe": {"train": {"seed": 7}},
    }
    return save_weights(tmp_path_factory.mktemp("weights") / "small.safetensors", network.state_dict(), about)
