"""What a search trains: the two halves of the data, the supernet, its teacher, and the losses of a pass.

Chen et al. 2020, Sec. 3 and published code; Yang et al. 2021, Sec. 3.3.

Design choices:
- the training images are dealt into two halves once, by the seed: weights learn on the first, architectures on the
  second;
- the loss is OHEM cross-entropy of each of the five outputs, added up, at 1/8 of the crop: labels are taken at every
  eighth pixel, logits are not enlarged (published);
- a fixed teacher's divergence (Eq. 7, which leaves it open) is KL(teacher || student), a mean over pixels at 1/8,
  added up over the five outputs of the pass whose widths are sampled; it is part of the architecture step alone.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from featherseg.data.batches import Batch, TrainingSamples
from featherseg.data.dataset import Sample, SegmentationDataset
from featherseg.data.sources import open_dataset
from featherseg.errors import FeathersegError
from featherseg.losses.cross_entropy import ohem, pixel_cross_entropy
from featherseg.losses.distillation import pixel_divergence
from featherseg.models.output import InputSpec
from featherseg.models.shipped import weights_path
from featherseg.models.weights import build_network, read_weights
from featherseg.randomness import generator
from featherseg.recipes.search_schema import Phase, SearchRecipe, Space
from featherseg.search.space import STUDENT, TEACHER, Role, SearchSpace
from featherseg.search.supernet import Supernet, WidthMode
from featherseg.training.segmentation import augmentation

STRIDE = 8
KEPT_SHARE = 16
Passes = tuple[tuple[int, WidthMode], ...]


class Half:
    """Some samples of a data set, by their indices there, as a data set."""

    def __init__(self, whole: SegmentationDataset, indices: tuple[int, ...]) -> None:
        self.whole, self.indices = whole, indices
        self.name, self.split, self.labels = whole.name, whole.split, whole.labels

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int) -> Sample:
        return self.whole.read(self.indices[index])

    def key(self, index: int) -> str:
        return self.whole.key(self.indices[index])

    def paths(self, index: int) -> tuple[Path, Path] | None:
        return self.whole.paths(self.indices[index])

    def fingerprint(self) -> str:
        return f"{self.whole.fingerprint()}, {len(self)} samples"


def halves(dataset: SegmentationDataset, seed: int) -> tuple[Half, Half]:
    """Two disjoint halves, of weights and of architectures; of an odd number the first has one less.

    Raises:
        FeathersegError: there are fewer than two images.
    """
    if len(dataset) < 2:
        raise FeathersegError(
            f"{dataset.name}: its split {dataset.split!r} has {len(dataset)} image; a search needs two at least, since "
            "weights and architectures learn on different ones."
        )
    order = [int(i) for i in generator(seed, "halves").permutation(len(dataset))]
    middle = len(order) // 2
    return Half(dataset, tuple(order[:middle])), Half(dataset, tuple(order[middle:]))


def search_space(settings: Space, *, co_search: bool) -> SearchSpace:
    """The space of a recipe's section; the searched network is the last role."""
    student = Role(STUDENT.name, settings.stem, settings.head, searches_widths=True)
    roles = (TEACHER, student) if co_search else (student,)
    return SearchSpace(settings.layers, settings.base, settings.widths, roles)


def pretraining_passes(roles: int, behaviour: str) -> Passes:
    """(role, widths) of each pass of a step that trains weights alone.

    The published code never trains the second architecture's own stem and heads here; ``corrected`` does.
    """
    if roles == 2 and behaviour == "corrected":
        return (0, "max"), (1, "min"), (1, "random"), (1, "random")
    return (0, "max"), (0, "min"), (0, "random"), (0, "random")


def searching_passes(roles: int, behaviour: str) -> tuple[Passes, Passes]:
    """The passes of an architecture step and of a weight step.

    Published, both take the same: every architecture as it is, then the last one at full and at least widths.
    ``corrected``: full and least widths say nothing of which widths are chosen, and are left to the weight step; full
    ones are left to the teacher, who has no others and shares the cells.
    """
    own: Passes = ((0, "max"), (1, "arch_ratio")) if roles == 2 else ((0, "arch_ratio"),)
    if behaviour == "official":
        both: Passes = (*own, (roles - 1, "max"), (roles - 1, "min"))
        return both, both
    further: Passes = ((1, "min"),) if roles == 2 else ((0, "max"), (0, "min"))
    return own, (*own, *further)


class SearchTask:
    """Data, supernet and losses of a search.

    Raises:
        FeathersegError: the data cannot be opened or holds too few images, the space has no path, or the teacher does
        not
            fit.
    """

    def __init__(self, recipe: SearchRecipe) -> None:
        self.recipe = recipe
        data = recipe.data
        self.train = open_dataset(data.source, data.train_split, size=data.size, count=data.count, seed=data.seed)
        self.val = open_dataset(data.source, data.val_split, size=data.size, count=data.val_count, seed=data.seed)
        self.halves = halves(self.train, recipe.train.seed)
        self.space = search_space(recipe.space, co_search=recipe.teacher.kind == "co_search")
        self.classes = len(self.train.labels)
        self.teacher = self._load_teacher()
        torch.manual_seed(recipe.train.seed)
        self.network = Supernet(self.space, self.classes, behaviour=recipe.behaviour)
        self.searched = len(self.space.roles) - 1

    def _load_teacher(self) -> nn.Module | None:
        given = self.recipe.teacher.weights
        if given is None:
            return None
        path = weights_path(given)
        weights = read_weights(path)
        if weights.metadata.get("task", "segmentation") != "segmentation":
            raise FeathersegError(f"teacher.weights={given}: is of a {weights.metadata['task']}, not a segmentation.")
        count, named = weights.metadata.get("num_classes"), weights.metadata.get("classes")
        if count != self.classes or (named and tuple(named) != self.train.labels.classes):
            theirs, ours = ", ".join(named or ["not named"]), ", ".join(self.train.labels.classes)
            raise FeathersegError(
                f"teacher.weights={given}: knows {count} classes ({theirs}), and the data has {self.classes} ({ours}). "
                "Take a teacher trained on the data's classes."
            )
        return build_network(weights, str(path)).requires_grad_(False)

    def samples(self, phase: Phase, half: int, offset: int = 0) -> TrainingSamples:
        """The augmented samples of a half, which is repeated where it does not fill a batch.

        Every half and phase (``offset``) has random numbers of its own.
        """
        settings = self.recipe.augment
        if phase.crop:
            settings = settings.model_copy(update={"crop": phase.crop})
        seed = (self.recipe.train.seed + 2 * offset + half) % 2**32
        own = self.halves[half]
        filled = Half(self.train, own.indices * -(-phase.batch_size // len(own)))
        return TrainingSamples(
            filled, augmentation(settings), seed, self.recipe.data.class_uniform, self.recipe.data.cache
        )

    def images(self, batch: Batch) -> Tensor:
        """Normalised images ``[B, 3, H, W]``."""
        inputs = self.network.input_spec.normalise(batch.images)
        return inputs.contiguous(memory_format=torch.channels_last) if self.recipe.train.channels_last else inputs

    def segmentation_loss(self, outputs: tuple[Tensor, ...], targets: Tensor) -> Tensor:
        """The sum over the outputs of the mean cross-entropy of their hard pixels."""
        labels = targets[:, ::STRIDE, ::STRIDE].contiguous()
        kept = max(1, labels.numel() // KEPT_SHARE)
        total = torch.zeros((), device=targets.device)
        for logits in outputs:
            losses = pixel_cross_entropy(logits, labels, align_corners=True)
            total = total + ohem(losses, labels, threshold=0.7, min_kept=kept)
        return total

    def distance(self, outputs: tuple[Tensor, ...], batch: Batch) -> Tensor:
        """Of the outputs from the fixed teacher's."""
        assert self.teacher is not None
        spec: InputSpec = self.teacher.input_spec  # type: ignore[assignment]
        with torch.no_grad():
            inputs = spec.normalise(batch.images).contiguous(memory_format=torch.channels_last)
            logits = self.teacher(inputs).logits.float()
            logits = spec.enlarge(logits, (batch.images.shape[1], batch.images.shape[2]))
            logits = F.interpolate(logits, outputs[0].shape[-2:], mode="bilinear", align_corners=True)
        return torch.stack([pixel_divergence(one, logits).mean() for one in outputs]).sum()

    def widths_generator(self, step: int) -> np.random.Generator:
        """The random numbers of a step's widths."""
        return generator(self.recipe.train.seed, "widths", step)
