"""Can one core feed the training? Augmented 360x480 crops a second, beside the images a second that training takes.

The first figure is `featherseg.data.batches.TrainingSamples` with the augmentation of a shipped recipe (flip, scale,
crop, colours, class-uniform sampling), on one thread, from images that were decoded before, as in every epoch but the
first; with --data, the rate of decoding, which the first epoch pays, stands beside it. The second is the training
loop's step (the "featherseg" loop of steps.py). Both are measured in turn, in one process, in interleaved rounds.
Without --data the images are procedural scenes of CamVid's size.
"""

import time
from functools import partial

import cv2
import numpy as np
import torch

from featherseg.data.batches import TrainingSamples
from featherseg.data.sources import open_dataset
from featherseg.recipes.reading import read_recipe
from featherseg.training.segmentation import augmentation
from measuring import finish, interleaved, load_average, parser, summary
from steps import images_per_second, scenes


def crops_per_second(samples: TrainingSamples, length: int, count: int, epochs: list[int]) -> float:
    """Rate of ``count`` augmented samples, of an epoch that was not asked for before."""
    epochs.append(len(epochs))
    cv2.setNumThreads(0)
    began = time.perf_counter()
    for position in range(count):
        samples[len(epochs), position % length]
    return count / (time.perf_counter() - began)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--recipe", default="camvid_fassd_net_l2", help="whose augmentation and network are taken")
    arguments.add_argument("--data", help="a data set instead of procedural scenes: folder or YAML")
    arguments.add_argument("--images", type=int, default=64, help="procedural scenes to draw from (default 64)")
    arguments.add_argument("--count", type=int, default=400, help="crops of a round (default 400)")
    arguments.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default 5)")
    arguments.add_argument("--steps", type=int, default=4, help="counted training steps of a round (default 4)")
    arguments.add_argument("--threads", type=int, default=2, help="of the training step (default 2)")
    options = arguments.parse_args()
    load = load_average()
    recipe = read_recipe(options.recipe)
    if options.data:
        dataset = open_dataset(options.data, recipe.data.train_split)
    else:
        dataset = open_dataset("streets", "train", size=(360, 480), count=options.images)
    samples = TrainingSamples(dataset, augmentation(recipe.augment), recipe.train.seed, recipe.data.class_uniform)

    began = time.perf_counter()
    for index in range(len(dataset)):
        samples.sample(index)
    decoding = len(dataset) / (time.perf_counter() - began)
    samples.images_of_class()

    torch.set_num_threads(options.threads)
    images, labels = scenes(recipe.augment.crop, recipe.train.batch_size)
    model = recipe.model.name
    rates = interleaved(
        {
            "input": partial(crops_per_second, samples, len(dataset), options.count, []),
            "training": partial(images_per_second, "featherseg", model, images, labels, options.steps, 2),
        },
        options.rounds,
        print,
    )
    height, width = recipe.augment.crop
    figures: dict[str, object] = {
        "augmented crops/s, one core": summary(rates["input"]),
        f"{model} training images/s, {options.threads} threads": summary(rates["training"]),
        "crops / images": round(float(np.median(rates["input"]) / np.median(rates["training"])), 2),
    }
    if options.data:
        figures["decoding, images/s, one core"] = round(decoding, 1)
    finish(
        "input pipeline",
        f"{dataset.name}/{dataset.split}, crops of {height}x{width}, median of interleaved rounds",
        figures,
        options.card,
        load,
        seeds=[recipe.train.seed],
        data_fingerprint=dataset.fingerprint(),
        rounds=options.rounds,
        threads=options.threads,
    )


if __name__ == "__main__":
    main()
