"""Optimisers with weight-decay groups, and their state by parameter name."""

from typing import Any

import torch
from torch import Tensor, nn

from featherseg.models.importer import encoder_prefixes
from featherseg.recipes.schema import Optimizer


def build_optimizer(network: nn.Module, settings: Optimizer) -> torch.optim.Optimizer:
    """SGD, Adam or AdamW over groups by decay and by part (encoder or rest).

    ``decay="all"`` decays every parameter, batch norm, PReLU and bias included, as FASSD-Net's published training does;
    ``"kernels"`` decays tensors of two or more dimensions only, ``"kernels_but_depthwise"`` of those all but depthwise
    kernels, as TensorFlow's mobile networks do. The decay of SGD and Adam is coupled: weight_decay times the weight is
    added to the gradient; AdamW's is not. Each group keeps its base rate as ``base_lr``.
    """
    encoder_names = encoder_prefixes(network)
    spared = _depthwise_kernels(network) if settings.decay == "kernels_but_depthwise" else set()
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            decays = settings.decay == "all" or (parameter.dim() > 1 and parameter not in spared)
            groups.setdefault((decays, name.startswith(encoder_names)), []).append(parameter)
    listed = []
    for (decays, encoder), parameters in groups.items():
        rate = settings.lr * (settings.encoder_lr_scale if encoder else 1.0)
        decay = settings.weight_decay if decays else 0.0
        listed.append({"params": parameters, "lr": rate, "base_lr": rate, "weight_decay": decay})
    if settings.kind == "sgd":
        return torch.optim.SGD(
            listed, lr=settings.lr, momentum=settings.momentum, nesterov=settings.nesterov, foreach=True
        )
    kind = torch.optim.Adam if settings.kind == "adam" else torch.optim.AdamW
    return kind(listed, lr=settings.lr, betas=settings.betas, foreach=True)


def _depthwise_kernels(network: nn.Module) -> set[Tensor]:
    """The kernels of convolutions that see one channel each."""
    return {
        layer.weight
        for layer in network.modules()
        if isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1
    }


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's rate to ``factor`` times its base rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


def optimizer_tensors(optimizer: torch.optim.Optimizer, network: nn.Module) -> dict[str, Tensor]:
    """The optimiser's tensors as ``{"parameter.name/kind": tensor}``."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in network.named_parameters()}
    return {
        f"{names[parameter]}/{kind}": value
        for parameter, state in optimizer.state.items()
        for kind, value in state.items()
        if isinstance(value, Tensor)
    }


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, network: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put back what :func:`optimizer_tensors` gave."""
    parameters: dict[str, Any] = dict(network.named_parameters())
    for key, value in tensors.items():
        name, kind = key.rsplit("/", 1)
        parameter = parameters[name]
        # Copies, in the parameter's memory format: what was read may be a view of the mapped file.
        like_parameter = kind != "step"
        optimizer.state[parameter][kind] = torch.empty_like(parameter).copy_(value) if like_parameter else value.clone()
