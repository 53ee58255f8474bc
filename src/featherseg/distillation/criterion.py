"""What distillation adds to a student's loss: the recipe's comparisons of logits and maps, one number an image."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from featherseg.distillation.teacher import Taught
from featherseg.losses.affinity import affinity_loss, pooled, pooled_affinity_loss
from featherseg.losses.distillation import channel_wise, divergence
from featherseg.losses.grids import Grid, grid_of, nearest_labels, read_at
from featherseg.models.output import InputSpec
from featherseg.recipes.distillation_schema import Affinity, Distillation, PathPair


def distillation_loss(
    logits: Tensor,
    maps: Mapping[str, Tensor],
    taught: Taught,
    labels: Tensor,
    settings: Distillation,
    pairs: Sequence[PathPair],
    specs: tuple[InputSpec, InputSpec],
) -> Tensor:
    """The weighted sum of all comparisons for each image, ``[B]``.

    Args:
        logits: the student's, ``[B, K, h, w]``.
        maps: the student's, by the names in ``pairs``.
        taught: what the teacher says; its grids may differ from the student's.
        labels: uint8 ``[B, H, W]``.
        settings: the recipe's section.
        pairs: maps that are compared, of the student and of the teacher.
        specs: of the student and of the teacher.
    """
    size = (labels.shape[1], labels.shape[2])
    with torch.autocast(logits.device.type, enabled=False):
        ours, theirs = logits.float(), taught.logits.float()
        own, other = (grid_of(one, spec, size) for one, spec in zip((ours, theirs), specs, strict=True))
        total = ours.new_zeros(len(labels))
        kl = settings.kl
        wants_grid = bool(kl.weight and kl.at == "logits") or bool(settings.channel_wise.weight)
        at_student = read_at(theirs, other, own) if wants_grid else theirs
        if kl.weight:
            compared = (ours, at_student, nearest_labels(labels, own))
            if kl.at == "labels":
                compared = (specs[0].enlarge(ours, size), specs[1].enlarge(theirs, size), labels)
            found = divergence(*compared, temperature=kl.temperature, reduction=kl.reduction)
            total = total + kl.weight * found
        if settings.channel_wise.weight:
            total = total + settings.channel_wise.weight * channel_wise(
                ours, at_student, settings.channel_wise.temperature
            )
        for pair in pairs if settings.affinity.weight else ():
            found = _affinity(maps[pair.student], taught.maps[pair.teacher], settings.affinity, specs, size)
            total = total + settings.affinity.weight * pair.weight * found
    return total


def _affinity(
    ours: Tensor, theirs: Tensor, settings: Affinity, specs: tuple[InputSpec, InputSpec], size: tuple[int, int]
) -> Tensor:
    if settings.form == "pooled":
        return pooled_affinity_loss(ours, theirs, settings.grid, centre=settings.centre)
    grids = grid_of(ours, specs[0], size), grid_of(theirs, specs[1], size)
    return affinity_loss(ours, theirs, grids, resize=settings.resize, centre=settings.centre)


def kept_of(taught: Taught, settings: Distillation, spec: InputSpec, size: tuple[int, int]) -> dict[str, Tensor]:
    """What the comparisons take of a teacher's outputs, by name: logits, coarser where the cache says so, and maps.

    Args:
        taught: of a batch.
        settings: the recipe's section.
        spec: of the teacher.
        size: of the images, (H, W).
    """
    logits, maps = taught.logits.float(), taught.maps
    with torch.autocast(logits.device.type, enabled=False):
        if settings.cache is not None and settings.cache.resolution == "quarter":
            grid = grid_of(logits, spec, size)
            most = tuple(max(1, -(-extent // 4)) for extent in grid.extent)
            to = (min(grid.size[0], most[0]), min(grid.size[1], most[1]))
            logits = read_at(logits, grid, Grid(to, grid.extent, grid.align_corners))
        if settings.affinity.form == "pooled":
            maps = {name: pooled(one, settings.affinity.grid) for name, one in maps.items()}
    return {"logits": logits} | {f"map {name}": one for name, one in maps.items()}


def taught_from(tensors: Mapping[str, Tensor]) -> Taught:
    """What :func:`kept_of` kept, as a teacher's outputs again, in float32."""
    maps = {name.removeprefix("map "): one.float() for name, one in tensors.items() if name.startswith("map ")}
    return Taught(tensors["logits"].float(), maps)
