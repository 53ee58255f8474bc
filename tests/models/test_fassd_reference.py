"""The imported networks give the published networks' full-size logits, by an independent second implementation."""

import pytest
import torch
from reference_fassd import Slips, reference_logits
from synthetic_weights import synthetic_images, synthetic_network

from featherseg.models.importer import import_checkpoint

TOLERANCE = 2e-4
STEM_STRIDES = {
    "fassd_net": (2, 1, 2, 1),
    "fassd_net_l1": (3, 1, 2, 1),
    "fassd_net_l2": (2, 2, 2, 1),
    "fc_hardnet_70": (2, 1, 2, 1),
    "fc_hardnet_70_l1": (3, 1, 2, 1),
    "fc_hardnet_70_l2": (2, 2, 2, 1),
}
# DAPF's dilations reach 36 pixels of a map at 1/32, 1/48 or 1/64: the strips are 38 of those pixels long.
STRIPS = {"fassd_net": (32, 1216), "fassd_net_l1": (48, 1824), "fassd_net_l2": (64, 2432)}
SIZES = ((128, 160), (131, 197), (150, 129))
CASES = [
    (name, size)
    for name in STEM_STRIDES
    for size in (*SIZES, *((STRIPS[name], STRIPS[name][::-1]) if name in STRIPS else ()))
]


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """Each network as imported from an official-style file, beside the tensors of that file."""
    networks = {}

    def get(name):
        if name not in networks:
            state = synthetic_network(name).state_dict()
            file = tmp_path_factory.mktemp(name) / "official.pth"
            torch.save({"epoch": 1, "model_state": {f"module.{key}": value for key, value in state.items()}}, file)
            networks[name] = import_checkpoint(name, file)[0], state
        return networks[name]

    return get


@torch.no_grad()
def full_size_logits(network, images):
    return network.input_spec.enlarge(network(images).logits, images.shape[-2:])


@pytest.mark.parametrize(("name", "size"), CASES, ids=str)
def test_imported_network_gives_the_logits_of_the_reference(imported, name, size):
    network, state = imported(name)
    images = synthetic_images(*size)
    with torch.no_grad():
        expected = reference_logits(state, images, STEM_STRIDES[name])
    assert expected.abs().max() > 1
    torch.testing.assert_close(full_size_logits(network, images), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("slip", "size"),
    [
        (Slips(mda_eps=1e-5), (97, 131)),
        (Slips(align_corners=False), (97, 131)),
        (Slips(prelu_as_relu=True), (97, 131)),
        (Slips(max_pooling=True), (97, 131)),
        (Slips(ceil_pooling=True), (97, 131)),
        (Slips(skip_first=True), (97, 131)),
        (Slips(links_farthest_first=True), (97, 131)),
        (Slips(mda_residual_activated=True), (97, 131)),
        (Slips(mda_dilations=(4, 4, 2)), (97, 131)),
        (Slips(mda_dilations=(8, 2, 2)), (97, 131)),
        (Slips(mda_dilations=(8, 4, 4)), (97, 131)),
        (Slips(dapf_dilations=(11, 24, 36)), (32, 1216)),
        (Slips(dapf_dilations=(12, 25, 36)), (32, 1216)),
        (Slips(dapf_dilations=(12, 24, 35)), (32, 1216)),
        (Slips(dapf_dilations=(11, 24, 36)), (1216, 32)),
        (Slips(dapf_dilations=(12, 25, 36)), (1216, 32)),
        (Slips(dapf_dilations=(12, 24, 35)), (1216, 32)),
    ],
    ids=str,
)
def test_a_slip_moves_the_logits_by_more_than_the_tolerance(imported, slip, size):
    network, state = imported("fassd_net")
    images = synthetic_images(*size)
    with torch.no_grad():
        wrong = reference_logits(state, images, STEM_STRIDES["fassd_net"], slip)
    assert (full_size_logits(network, images) - wrong).abs().max() > 10 * TOLERANCE
