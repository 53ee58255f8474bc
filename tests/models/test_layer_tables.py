"""Every layer against the tables of the published networks: names, shapes, strides, dilations, sizes, MACs."""

import csv
from collections import Counter

import pytest
import torch
from torch import nn

from featherseg.models.registry import create_model

SIZE = (1024, 2048)
OFFICIAL_NAMES = (
    "fassd_net",
    "fassd_net_l1",
    "fassd_net_l2",
    "fc_hardnet_70",
)
# No code was published for these: their tables name the modules in another way, so that layers are compared unnamed.
UNNAMED = {
    "fc_hardnet_70_l1": "fc_hardnet_70_l1",
    "fc_hardnet_70_l2": "fc_hardnet_70_l2",
    "fassd_net_baseline": "ablation_baseline",
    "fassd_net_aspp": "ablation_aspp",
    "fassd_net_dapf": "ablation_dapf",
    "fassd_net_mda": "ablation_mda",
    "fassd_net_aspp_mda": "ablation_aspp_mda",
}


def pair(value):
    return "x".join(map(str, value)) if isinstance(value, tuple) else f"{value}x{value}"


def layers_of(name):
    """The rows of a layer table, as our network has them: module -> what the table's columns say."""
    with torch.device("meta"):
        network = create_model(name).eval()
    rows = {}

    def watch(module_name):
        def note(module, inputs, output):
            if not isinstance(output, torch.Tensor):
                return
            size = "x".join(map(str, output.shape[1:]))
            if isinstance(module, nn.Conv2d):
                macs = output.numel() * module.weight[0].numel()
                shape = (module.in_channels, module.out_channels, pair(module.kernel_size))
                stride = module.stride[0]
                rest = (pair(module.padding), pair(module.dilation), int(module.bias is not None))
                rows[module_name] = ("Conv2d", *map(str, (*shape, stride, *rest)), size, str(macs))
            elif isinstance(module, nn.BatchNorm2d):
                rows[module_name] = (f"BatchNorm2d eps={module.eps}", size)
            elif isinstance(module, nn.PReLU):
                rows[module_name] = ("PReLU per-channel", size) if module.num_parameters > 1 else ("PReLU", size)
            elif isinstance(module, nn.AvgPool2d):
                rows[module_name] = (
                    "AvgPool2d",
                    str(module.kernel_size),
                    str(module.stride),
                    str(module.padding),
                    size,
                )

        return note

    for module_name, module in network.named_modules():
        module.register_forward_hook(watch(module_name))
    with torch.no_grad():
        network(torch.empty(1, 3, *SIZE, device="meta"))
    return rows


def table_of(folder, name):
    """The rows of a table in the same form; activations without parameters are functions in our network."""
    rows = {}
    with (folder / f"layers_{name}.tsv").open() as file:
        for row in csv.DictReader(file, delimiter="\t"):
            size = row["out CxHxW @1024x2048"]
            if row["type"] == "Conv2d":
                columns = ("in", "out", "kernel", "stride", "pad", "dilation", "bias")
                rows[row["module"]] = ("Conv2d", *(row[column] for column in columns), size, row["MACs"])
            elif row["type"] == "AvgPool2d":
                rows[row["module"]] = ("AvgPool2d", row["kernel"], row["stride"], row["pad"], size)
            elif row["type"] != "ReLU":
                rows[row["module"]] = (row["type"], size)
    return rows


@pytest.mark.shared
@pytest.mark.parametrize("name", OFFICIAL_NAMES)
def test_layers_are_those_of_the_published_network_by_name(shared_data, name):
    assert layers_of(name) == table_of(shared_data.parent / "specs" / "layers", name)


@pytest.mark.shared
@pytest.mark.parametrize("name", UNNAMED)
def test_layers_are_those_of_the_table(shared_data, name):
    expected = Counter(table_of(shared_data.parent / "specs" / "layers", UNNAMED[name]).values())
    assert Counter(layers_of(name).values()) == expected
