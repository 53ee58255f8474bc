"""The detectors: costs to the unit, anchors that lie where they are said to, and outputs in the anchors' order."""

import pytest
import torch

from featherseg.bench.complexity import count
from featherseg.errors import FeathersegError
from featherseg.models.anchors import SINGLE_LEVEL, THREE_LEVELS, AnchorLevel, level_anchors
from featherseg.models.carry import carry_over
from featherseg.models.detection_output import DetectorSpec, flat_maps
from featherseg.models.importer import import_encoder
from featherseg.models.registry import create_model, list_models
from featherseg.models.ssd import SSD300, map_sizes
from featherseg.models.weights import build_network, describe_network, read_weights, save_weights

NAMES = ("pyramid_rpn", "pyramid_rpn_multi", "ssd300_vgg16")
MOBILE = {"trunk": "mobilenet_v2"}


def small(name: str, num_classes: int = 1, **arguments):
    torch.manual_seed(0)
    return create_model(name, num_classes, **({} if name.startswith("ssd") else MOBILE), **arguments).eval()


def test_the_registry_lists_the_detectors():
    assert list_models("detection") == sorted(NAMES)


@pytest.mark.parametrize(
    ("name", "size", "parameters", "macs", "anchors"),
    [
        ("pyramid_rpn", (384, 1248), 1_811_712 + 960_440, 3.118, 12 * 39 * 24),
        ("pyramid_rpn_multi", (384, 1248), 1_811_712 + 68_717, 3.096, 9 * 21 * 12 * 39),
    ],
)
def test_on_the_plain_trunk_parameters_and_macs_are_those_of_the_specification(name, size, parameters, macs, anchors):
    found = count(name, size, 1, **MOBILE)
    assert (found.parameters, found.parameters_deployed) == (parameters, parameters)
    assert found.conv_macs / 1e9 == pytest.approx(macs, abs=5e-4)
    assert len(small(name).anchors(*size)) == anchors


def test_ssd_costs_what_the_published_network_costs():
    """torchvision's ssd300_vgg16 with two classes, the background one of them."""
    found = count("ssd300_vgg16", (300, 300), 1)
    assert (found.parameters, found.parameters_deployed) == (23_745_908, 23_745_908)
    assert found.conv_macs / 1e9 == pytest.approx(30.43, abs=5e-3)
    with torch.device("meta"):
        assert len(SSD300(1).anchors(300, 300)) == 8732


@pytest.mark.parametrize("name", NAMES)
def test_scores_deltas_and_anchors_are_as_many(name):
    with torch.device("meta"):
        network = small(name, 3)
        height, width = network.detector_spec.input_size(61, 90)
        output = network(torch.zeros(2, 3, height, width))
        anchors = network.anchors(height, width)
    assert output.scores.shape == (2, len(anchors), 4 if name.startswith("ssd") else 3)
    assert output.deltas.shape == (2, len(anchors), 4)


@pytest.mark.parametrize("name", NAMES[:2])
def test_training_reaches_every_parameter(name):
    network = small(name, 2).train()
    height, width = network.detector_spec.input_size(64, 96)
    output = network(torch.randn(2, 3, height, width))
    (output.scores.square().mean() + output.deltas.square().mean()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


@pytest.mark.parametrize("name", NAMES[:2])
def test_saved_weights_give_the_same_output(name, tmp_path):
    network = small(name, 2)
    about = describe_network(network, name, 2, MOBILE)
    loaded = build_network(read_weights(save_weights(tmp_path / "w", network.state_dict(), about)), "w")
    height, width = network.detector_spec.input_size(64, 64)
    image = torch.randn(1, 3, height, width)
    with torch.no_grad():
        assert torch.equal(network(image).scores, loaded(image).scores)


@pytest.mark.parametrize(
    ("name", "sizes", "ratios", "counts"),
    [
        ("pyramid_rpn", [128, 256, 512], [0.5, 1, 2], (9,)),  # of Faster R-CNN
        ("pyramid_rpn", [32, 64, 128, 256], [0.5, 0.75, 1], (12,)),
        ("pyramid_rpn", [32, 45, 64, 90, 128, 181, 256], [0.4, 0.6, 0.9], (21,)),
        ("pyramid_rpn_multi", [128, 256, 512], [0.5, 1, 2], (3, 3, 3)),
        ("pyramid_rpn_multi", None, [1], (3, 3, 3)),
    ],
    ids=str,
)
def test_other_anchors_can_be_asked_for_and_are_kept_with_the_weights(name, sizes, ratios, counts, tmp_path):
    given = {"sizes": sizes, "ratios": ratios}
    network = small(name, **given)
    about = describe_network(network, name, 1, MOBILE | given)
    loaded = build_network(read_weights(save_weights(tmp_path / "w", network.state_dict(), about)), "w")
    own, found = network.anchors(64, 96), loaded.anchors(64, 96)
    assert torch.equal(own, found)
    assert tuple(level.count for level in loaded.levels) == counts
    assert len(loaded(torch.zeros(1, 3, 64, 96)).scores[0]) == len(found)
    sides = found[:, 2:] - found[:, :2]
    asked = [size for level in THREE_LEVELS for size in level.sizes] if sizes is None else sizes
    assert sorted({round(area**0.5, 1) for area in sides.prod(1).tolist()}) == sorted(asked)
    assert {round(ratio, 3) for ratio in (sides[:, 1] / sides[:, 0]).tolist()} == set(ratios)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"sizes": [32, 64, 128, 256]}, "4 sizes, .* do not go evenly onto 3 maps"),
        ({"sizes": [32, -1, 64]}, "sizes is .*; it must be a list of numbers above 0"),
        ({"ratios": []}, "ratios is .*; it must be a list of numbers above 0"),
        ({"ratios": "wide"}, "ratios is 'wide'"),
    ],
)
def test_anchors_that_cannot_be_are_refused(arguments, said):
    with torch.device("meta"), pytest.raises(FeathersegError, match=said):
        small("pyramid_rpn_multi", **arguments)


def test_the_classes_of_a_trained_detector_can_be_changed():
    for name in NAMES:
        with torch.device("meta"):
            two, three = small(name, 2), small(name, 3)
        report = carry_over(three, two.state_dict(), "all_but_logits", where="the old one")
        assert report.fresh
        assert all("score" in key or "classification_head" in key for key in report.fresh)


def test_a_classifiers_trunk_starts_a_detector():
    torch.manual_seed(1)
    classifier = create_model("mobilenet_v2", 7)
    for name in ("pyramid_rpn", "pyramid_rpn_multi"):
        network = small(name)
        import_encoder(network, classifier.state_dict())
        trunk = {key: value for key, value in classifier.state_dict().items() if key.startswith("base.")}
        assert all(torch.equal(network.state_dict()[key], value) for key, value in trunk.items())


def test_maps_become_rows_in_the_order_of_the_anchors():
    """Row by row, cell by cell, anchor by anchor; each value is made to tell where it stands."""
    anchors, values, height, width = 2, 3, 4, 5
    a, v, y, x = torch.meshgrid(*(torch.arange(n) for n in (anchors, values, height, width)), indexing="ij")
    flat = flat_maps([(1000 * a + 100 * v + 10 * y + x).reshape(1, anchors * values, height, width)], values)
    expected = [
        [1000 * a + 100 * v + 10 * y + x for v in range(values)]
        for y in range(height)
        for x in range(width)
        for a in range(anchors)
    ]
    assert flat[0].tolist() == expected


def test_anchors_lie_around_the_centres_of_cells_with_the_area_and_ratio_asked_for():
    level = AnchorLevel(8, (16, 30), (0.5, 2))
    boxes = level_anchors((level,), 17, 16)
    assert boxes.shape == (3 * 2 * 4, 4)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert centres[:4].tolist() == [[4, 4]] * 4
    assert centres[4:8].tolist() == [[12, 4]] * 4
    assert centres[8].tolist() == [4, 12]
    sides = boxes[:4, 2:] - boxes[:4, :2]
    assert sides.prod(1).sqrt().tolist() == pytest.approx([16, 16, 30, 30], rel=1e-5)
    assert (sides[:, 1] / sides[:, 0]).tolist() == pytest.approx([0.5, 2, 0.5, 2], rel=1e-5)


def best_ious(boxes: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
    best = torch.zeros(len(boxes))
    for index, box in enumerate(boxes):
        sides = (torch.minimum(anchors[:, 2:], box[2:]) - torch.maximum(anchors[:, :2], box[:2])).clamp(min=0)
        shared = sides.prod(1)
        area = (anchors[:, 2:] - anchors[:, :2]).prod(1)
        best[index] = (shared / (area + (box[2:] - box[:2]).prod() - shared)).max()
    return best


@pytest.mark.parametrize(
    ("heights", "single", "three"), [((25, 40), 0.50, 0.97), ((40, 80), 0.90, 0.97), ((80, 160), 0.99, 0.99)]
)
def test_three_levels_reach_the_small_cars_that_one_level_misses(heights, single, three):
    """Car-like boxes, 0.9 to 2.6 times as wide as high, anywhere in a KITTI frame; the share with an IoU of 0.5."""
    random = torch.Generator().manual_seed(0)
    low, high = heights
    height = low + (high - low) * torch.rand(300, generator=random)
    width = height * (0.9 + 1.7 * torch.rand(300, generator=random))
    x = torch.rand(300, generator=random) * (1242 - width)
    y = torch.rand(300, generator=random) * (375 - height)
    boxes = torch.stack([x, y, x + width, y + height], 1)
    for levels, expected in ((SINGLE_LEVEL, single), (THREE_LEVELS, three)):
        share = float((best_ious(boxes, level_anchors(levels, 384, 1248)) >= 0.5).float().mean())
        assert share == pytest.approx(expected, abs=0.05)


def test_ssd_anchors_are_the_published_ones():
    """torchvision's DefaultBoxGenerator: the first cell's and the last map's boxes, worked out by hand."""
    with torch.device("meta"):
        network = SSD300(1)
    boxes = network.anchors(300, 300)
    first = [
        (4 - w / 2, 4 - h / 2, 4 + w / 2, 4 + h / 2)
        for w, h in ((21, 21), (30.7409, 30.7409), (29.6985, 14.8492), (14.8492, 29.6985))
    ]
    assert boxes[:4].flatten().tolist() == pytest.approx([n for box in first for n in box], abs=1e-3)
    assert boxes[-4].tolist() == pytest.approx([150 - 130.5, 150 - 130.5, 150 + 130.5, 150 + 130.5])
    assert map_sizes(300) == [38, 19, 10, 5, 3, 1]


def test_a_state_dict_with_torchvisions_names_fits():
    """Names of layers that only this layout has, as torchvision's ssd300_vgg16 writes them."""
    with torch.device("meta"):
        names = set(SSD300(1).state_dict())
    assert {
        "backbone.scale_weight",
        "backbone.features.21.weight",
        "backbone.extra.0.5.weight",
        "backbone.extra.0.7.3.bias",
        "backbone.extra.4.2.weight",
        "head.classification_head.module_list.5.bias",
        "head.regression_head.module_list.0.weight",
    } <= names
    assert len(names) == 1 + 2 * (13 + 2 + 8 + 12)


def test_images_are_padded_to_whole_cells_or_resized():
    spec = DetectorSpec()
    assert spec.input_size(370, 1224) == (384, 1248)
    assert spec.input_size(1, 1) == (32, 32)
    assert spec.pad(torch.ones(1, 3, 33, 64)).sum() == 3 * 33 * 64
    assert spec.pad(torch.ones(1, 3, 33, 64)).shape == (1, 3, 64, 64)
    assert SSD300.detector_spec.input_size(375, 1242) == (300, 300)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"trunk": "resnet"}, "trunk is 'resnet'"),
        ({"levels": (16,)}, "levels is"),
        ({"prior": 0.0}, "prior is 0.0"),
        ({"trunk": "mobilenet_v2", "trunk_arguments": {"padding": "same"}}, "padding is 'same'"),
    ],
)
def test_wrong_arguments_are_refused(arguments, said):
    with pytest.raises(FeathersegError, match=said):
        create_model("pyramid_rpn", 1, **({"trunk": "mobilenet_v2"} | arguments))


def test_an_input_too_small_for_ssd_is_refused():
    with pytest.raises(FeathersegError, match="too small for its last map"), torch.device("meta"):
        SSD300(1)(torch.zeros(1, 3, 64, 300))
