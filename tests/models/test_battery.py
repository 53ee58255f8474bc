"""What every registered network must do, whatever its family."""

from copy import deepcopy
from functools import cache

import numpy as np
import pytest
import torch
from synthetic_weights import synthetic_images, synthetic_network
from test_fasterseg import TINY

from featherseg.errors import FeathersegError
from featherseg.models.output import SegmentationOutput
from featherseg.models.registry import create_model, list_models
from featherseg.models.weights import build_network, describe_network, read_weights, save_weights

CLASSES = 5
# Built narrow, so that the battery stays fast: their width alone is another.
ARGUMENTS = {
    "fasterseg": {"architecture": TINY},
    "hrnet_w48": {"width": 4},
    "hrnet_w48_ocr": {"width": 4, "ocr_width": 16},
}
# Left out, since another name runs the same code: the teacher is the student's with other, wider cells.
LIKE_ANOTHER = {"fasterseg_teacher": "fasterseg_student"}
NAMES = [name for name in list_models() if name not in LIKE_ANOTHER]
EXPORTED = ("fassd_net", "fassd_net_l2")

every_network = pytest.mark.parametrize("name", NAMES)


@cache
def eval_network(name):
    return synthetic_network(name, CLASSES, **ARGUMENTS.get(name, {}))


@torch.no_grad()
def logits_of(network, images):
    return network(images).logits


@every_network
def test_training_reaches_every_parameter(name):
    torch.manual_seed(0)
    network = create_model(name, CLASSES, **ARGUMENTS.get(name, {})).train()
    # Two images: where the last map is one pixel, batch norm needs a second value.
    output = network(synthetic_images(128, 128, batch=2))
    assert isinstance(output, SegmentationOutput)
    heads = {head for head in ("auxiliary", "boundary") if getattr(output, head) is not None}
    assert set(getattr(network, "training_heads", ())) == heads
    loss = output.logits.square().mean() + sum(extra.square().mean() for extra in output.auxiliary or ())
    if output.boundary is not None:
        loss = loss + output.boundary.square().mean()
    loss.backward()
    without = [key for key, p in network.named_parameters() if p.grad is None]
    assert not without
    assert all(p.grad.isfinite().all() for p in network.parameters())
    assert all(p.grad.abs().sum() > 0 for p in network.parameters())


@every_network
def test_eval_gives_logits_alone_at_the_stated_stride(name):
    network = eval_network(name)
    side = 2 * max(network.input_spec.min_size, network.input_spec.output_stride)
    with torch.no_grad():
        output = network(synthetic_images(side, 2 * side))
    assert output.auxiliary is None
    assert output.boundary is None
    stride = network.input_spec.output_stride
    assert output.logits.shape == (1, CLASSES, -(-side // stride), -(-2 * side // stride))
    assert output.logits.dtype == torch.float32


@every_network
@pytest.mark.parametrize("size", [(1, 1), (1, 33), (37, 51), (130, 67)], ids=str)
def test_any_size_gives_finite_logits_of_the_image_s_size(name, size):
    network = eval_network(name)
    full = network.input_spec.enlarge(logits_of(network, synthetic_images(*size)), size)
    assert full.shape == (1, CLASSES, *size)
    assert full.isfinite().all()


@every_network
def test_padding_a_small_image_by_hand_changes_nothing(name):
    network = eval_network(name)
    images = synthetic_images(9, 17)
    spec = network.input_spec
    padded = torch.zeros(1, 3, *spec.padded_size(9, 17))
    padded[:, :, :9, :17] = images
    assert torch.equal(logits_of(network, images), logits_of(network, padded))


@every_network
def test_a_batch_equals_its_images(name):
    # In float64: how much a network amplifies rounding is its own affair.
    network = deepcopy(eval_network(name)).double()
    images = synthetic_images(70, 96, batch=2).double()
    together = logits_of(network, images)
    alone = torch.cat([logits_of(network, images[:1]), logits_of(network, images[1:])])
    assert (together - alone).abs().max() <= 1e-9 * max(1.0, alone.abs().max().item())


@every_network
def test_saved_weights_give_identical_logits(name, tmp_path):
    network = eval_network(name)
    file = save_weights(
        tmp_path / "w", network.state_dict(), describe_network(network, name, CLASSES, ARGUMENTS.get(name))
    )
    loaded = build_network(read_weights(file), str(file))
    images = synthetic_images(64, 80)
    assert not loaded.training
    assert loaded.input_spec == network.input_spec
    assert torch.equal(logits_of(loaded, images), logits_of(network, images))


@every_network
def test_construction_is_a_function_of_the_seed(name):
    def fresh(seed):
        torch.manual_seed(seed)
        return create_model(name, CLASSES, **ARGUMENTS.get(name, {})).state_dict()

    first, again, other = fresh(3), fresh(3), fresh(4)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@every_network
def test_an_unknown_argument_is_refused(name):
    with pytest.raises(FeathersegError, match="unknown argument 'alpah'"):
        create_model(name, CLASSES, alpah=2)


@every_network
@pytest.mark.parametrize("num_classes", [0, -1, 2.0, "19", True, 10**12], ids=str)
def test_a_wrong_number_of_classes_is_refused(name, num_classes):
    with pytest.raises(FeathersegError, match="num_classes"):
        create_model(name, num_classes)


def test_a_misspelt_name_gets_the_nearest():
    with pytest.raises(FeathersegError, match="did you mean 'fassd_net_l2'"):
        create_model("fasd_net_l2")


def test_a_misspelt_argument_gets_the_nearest():
    with pytest.raises(FeathersegError, match="did you mean 'alpha'"):
        create_model("fassd_net", alpah=2)


@pytest.mark.parametrize("name", EXPORTED)
def test_the_eval_network_exports_with_the_same_logits(name):
    network = eval_network(name)
    images = synthetic_images(64, 96)
    program = torch.export.export(network, (images,))
    with torch.no_grad():
        exported = program.module()(images)
    torch.testing.assert_close(exported[0], logits_of(network, images), rtol=0, atol=1e-5)


every_classifier = pytest.mark.parametrize("name", list_models("classification"))


@every_classifier
def test_training_reaches_every_parameter_of_a_classifier(name):
    torch.manual_seed(0)
    network = create_model(name, CLASSES).train()
    # Where the last map is one pixel, batch norm of two values passes no gradient on.
    scores = network(synthetic_images(128, 128, batch=2))
    assert scores.shape == (2, CLASSES)
    scores.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in network.parameters())


@every_classifier
@pytest.mark.parametrize("size", [(1, 1), (1, 33), (37, 51)], ids=str)
def test_a_classifier_takes_any_size(name, size):
    torch.manual_seed(0)
    with torch.no_grad():
        scores = create_model(name, CLASSES).eval()(synthetic_images(*size))
    assert scores.shape == (1, CLASSES)
    assert scores.isfinite().all()


@every_classifier
def test_a_saved_classifier_gives_identical_scores(name, tmp_path):
    torch.manual_seed(0)
    network = create_model(name, CLASSES).eval()
    file = save_weights(tmp_path / "w", network.state_dict(), describe_network(network, name, CLASSES))
    loaded = build_network(read_weights(file), str(file))
    images = synthetic_images(64, 80)
    with torch.no_grad():
        assert torch.equal(loaded(images), network(images))


def test_the_number_of_classes_may_be_of_numpy():
    network = create_model("fassd_net_l2", np.int64(3))  # type: ignore[arg-type]
    assert create_model("fassd_net_l2", 3).state_dict().keys() == network.state_dict().keys()
    with pytest.raises(FeathersegError, match="num_classes"):
        create_model("fassd_net_l2", True)
