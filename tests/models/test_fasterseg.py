"""FasterSeg: the published counts, an independent implementation, architectures from JSON, and the published layout."""

import json

import pytest
import torch
from reference_fasterseg import fasterseg as reference
from synthetic_weights import synthetic_images, synthetic_network, synthetic_tensor
from torch.nn import functional as F

from featherseg.bench.complexity import count
from featherseg.errors import FeathersegError
from featherseg.models.carry import carry_over
from featherseg.models.fasterseg import FasterSeg
from featherseg.models.fasterseg_architecture import parse
from featherseg.models.fasterseg_cells import OPERATORS, build_operator
from featherseg.models.fasterseg_published import PUBLISHED
from featherseg.models.importer import CheckpointMismatch, import_checkpoint, import_encoder
from featherseg.models.registry import create_model
from featherseg.models.weights import build_network, describe_network, read_weights, save_weights

# Measured on the published code: parameters as built for training, deployed, conv MACs in 10^9.
COUNTS = {
    "fasterseg_student": (4_385_689, 3_421_875, 27.770),
    "fasterseg_teacher": (23_524_137, 22_115_203, 107.78),
}
TINY = {
    "stem": [4, 8, 8],
    "head_width": 8,
    "branches": [
        {
            "scale": 32,
            "layers": [
                {"operator": "conv_2x", "in": 8, "out": 4},
                {"operator": "conv_downup", "in": 4, "out": 8, "stride": 2},
                {"operator": "conv_2x_downup", "in": 8, "out": 12, "stride": 2},
                {"operator": "conv_2x_downup", "in": 12, "out": 16},
            ],
        },
        {
            "scale": 16,
            "layers": [
                {"operator": "conv_2x", "in": 8, "out": 4},
                {"operator": "conv", "in": 4, "out": 8, "stride": 2},
                {"operator": "conv_downup", "in": 8, "out": 8},
            ],
        },
    ],
}


@pytest.mark.parametrize("name", COUNTS)
def test_costs_are_the_published_ones_to_the_unit(name):
    built, deployed, macs = COUNTS[name]
    counted = count(name, published_extras=True)
    assert (counted.parameters, counted.parameters_deployed) == (built, deployed)
    assert counted.conv_macs / 1e9 == pytest.approx(macs, abs=0.005)


@pytest.mark.parametrize("name", COUNTS)
def test_what_is_never_run_is_left_out(name):
    counted, published = count(name), count(name, published_extras=True)
    fused = 2 * PUBLISHED[name].head_width
    assert published.parameters - counted.parameters == 2 * fused**2
    assert (counted.parameters_deployed, counted.conv_macs) == (published.parameters_deployed, published.conv_macs)


@pytest.mark.shared
@pytest.mark.parametrize("name", COUNTS)
def test_the_published_architectures_are_those_of_the_published_files(name, shared_data):
    """The mapping: op, cin, cout and stride of each layer, its branch's name, how many layers both branches share."""
    file = shared_data.parent / "specs" / "fasterseg_arch.json"
    net = json.loads(file.read_text())["nets"][name.removeprefix("fasterseg_")]
    converted = {
        "stem": [layer["cout"] for layer in net["stem"]],
        "head_width": 8 * net["stem_head_width"][1],
        "shared_layers": sum(len(layer["shared_by_branches"]) == 2 for layer in net["branches"]["1/32"]),
        "branches": [
            {
                "scale": int(key.removeprefix("1/")),
                "layers": [
                    {"operator": one["op"], "in": one["cin"], "out": one["cout"], "stride": one["stride"]}
                    for one in layers
                ],
            }
            for key, layers in net["branches"].items()
        ],
    }
    assert PUBLISHED[name].to_dict() == converted


def published_names(network):
    """Synthetic weights in the published layout: shared cells under both branches' numbers, and the unused extras."""
    state = {}
    for name, tensor in network.state_dict().items():
        parts = name.split(".")
        if parts[0] == "cells":
            names = [".".join([*parts[:2], "_op", "_op", *parts[2:]])]
            layer, branch = parts[1].split("-")
            if branch == "0" and int(layer) < network.architecture.shared_layers:
                names.append(names[0].replace(f"{layer}-0", f"{layer}-1"))
        elif parts[0] == "decoders":
            scale = network.architecture.branches[int(parts[1])].scale
            place = [parts[3]] if scale == 32 else []
            names = [".".join([f"{parts[2]}{scale}", *place, "conv", str(["conv", "norm"].index(parts[4])), parts[5]])]
        elif parts[:2] == ["stem", "0"]:
            names = [f"stem.0.conv.{['conv', 'norm'].index(parts[2])}.{parts[3]}"]
        elif parts[0] == "ffm":
            names = [f"ffm.conv_1x1.{parts[1].replace('norm', 'bn')}.{parts[2]}"]
        else:
            names = [name.replace(".norm.", ".bn.")]
        state |= {key: synthetic_tensor(names[0], tensor.shape) for key in names}
    width = network.fused_channels
    for i in (1, 2):
        key = f"ffm.channel_attention.{i}.conv.weight"
        state[key] = synthetic_tensor(key, torch.Size([width, width, 1, 1]))
    return state


@pytest.fixture(scope="module")
def student_state():
    with torch.device("meta"):
        network = create_model("fasterseg_student", 5)
    return published_names(network)


def test_a_published_file_gives_the_logits_of_an_independent_implementation(student_state, tmp_path):
    torch.save(student_state, tmp_path / "weights.pt")
    network, report = import_checkpoint("fasterseg_student", tmp_path / "weights.pt")
    assert report.percent == 100
    images = synthetic_images(64, 128, batch=2)
    layers = [
        [(layer.operator, layer.stride) for layer in one.layers] for one in PUBLISHED["fasterseg_student"].branches
    ]
    with torch.no_grad():
        expected = reference(student_state, layers, images)
        features = network.features(images)
        ours = (network(images).logits, *network.auxiliary(features))
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * other.abs().max().item())


def test_what_a_published_file_holds_twice_or_for_nothing_is_reported(student_state, tmp_path):
    torch.save(student_state, tmp_path / "weights.pt")
    _, report = import_checkpoint("fasterseg_student", tmp_path / "weights.pt")
    extras = [f"ffm.channel_attention.{i}.conv.weight" for i in (1, 2)]
    doubled = [key for key in student_state if key.startswith(("cells.0-1.", "cells.1-1.", "cells.2-1."))]
    assert sorted(report.ignored) == sorted(extras + doubled)


def test_the_published_extras_are_imported_where_they_are_asked_for(student_state, tmp_path):
    torch.save(student_state, tmp_path / "weights.pt")
    network, report = import_checkpoint("fasterseg_student", tmp_path / "weights.pt", published_extras=True)
    loaded = network.ffm.channel_attention[1].weight
    assert report.percent == 100
    assert torch.equal(loaded, student_state["ffm.channel_attention.2.conv.weight"])


def test_two_versions_of_a_shared_cell_are_refused(student_state, tmp_path):
    key = "cells.1-1._op._op.conv2.weight"
    torch.save({**student_state, key: student_state[key] + 1e-3}, tmp_path / "weights.pt")
    with pytest.raises(FeathersegError, match=r"cells\.1-1\._op\._op\.conv2\.weight and cells\.1-0\..* differ"):
        import_checkpoint("fasterseg_student", tmp_path / "weights.pt")


def test_a_file_of_another_architecture_is_refused(student_state, tmp_path):
    torch.save(student_state, tmp_path / "weights.pt")
    with pytest.raises(CheckpointMismatch, match="as fasterseg with the architecture"):
        import_checkpoint("fasterseg", tmp_path / "weights.pt", architecture=TINY)


def test_a_published_file_starts_the_tutor(student_state):
    tutor = create_model("fasterseg_tutor", 3)
    report = import_encoder(tutor, student_state)
    assert report.percent == 100
    assert torch.equal(tutor.cells["3-1"].conv1.weight, student_state["cells.3-1._op._op.conv1.weight"])


def operator_sizes(name, stride, height, width):
    operator = build_operator(name, 4, 4, stride).eval()
    with torch.no_grad():
        return tuple(operator(torch.rand(1, 4, height, width)).shape[-2:])


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_of_stride_1_keeps_every_size(name):
    assert operator_sizes(name, 1, 7, 10) == (7, 10)


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_of_stride_2_halves_down_where_it_zooms_and_up_elsewhere(name):
    assert operator_sizes(name, 2, 7, 10) == ((3, 5) if "downup" in name else (4, 5))


def test_a_skip_of_stride_2_takes_every_pixel_s_neighbour_in_its_second_half():
    skip = build_operator("skip", 1, 2, 2).eval()
    with torch.no_grad():
        skip.conv1.weight.fill_(1)
        skip.conv2.weight.fill_(1)
        found = skip(torch.arange(1.0, 13).reshape(1, 1, 3, 4)) * (1 + 1e-5) ** 0.5
    expected = torch.tensor([[[1.0, 3], [9, 11]], [[6, 8], [0, 0]]])
    torch.testing.assert_close(found[0], expected)


def test_nearest_resizing_is_another_network():
    images = synthetic_images(64, 64)
    bilinear = create_model("fasterseg", 2, architecture=TINY)
    nearest = create_model("fasterseg", 2, architecture=TINY, resize="nearest")
    nearest.load_state_dict(bilinear.state_dict())
    with torch.no_grad():
        assert not torch.allclose(bilinear.eval()(images).logits, nearest.eval()(images).logits, rtol=1e-3)


def test_auxiliary_logits_stand_at_a_sixteenth_and_a_thirty_second():
    network = create_model("fasterseg", 3, architecture=TINY).train()
    output = network(synthetic_images(128, 192, batch=2))
    assert output.logits.shape == (2, 3, 16, 24)
    assert [tuple(extra.shape) for extra in output.auxiliary] == [(2, 3, 8, 12), (2, 3, 4, 6)]


@pytest.mark.parametrize("size", [(97, 131), (135, 127), (65, 67)])
def test_branches_that_halve_odd_maps_differently_still_train(size):
    network = create_model("fasterseg", 3, architecture=TINY).train()
    output = network(synthetic_images(*size, batch=2))
    assert all(extra.isfinite().all() for extra in (output.logits, *output.auxiliary))


@pytest.mark.parametrize("scales", [(32, 8), (16, 8), (8,), (32, 32)])
def test_any_pair_of_branches_can_be_built(scales):
    branches = {
        32: TINY["branches"][0],
        16: TINY["branches"][1],
        8: {"scale": 8, "layers": [{"operator": "conv", "in": 8, "out": 6}, {"operator": "skip", "in": 6, "out": 6}]},
    }
    architecture = parse({**TINY, "branches": [branches[scale] for scale in scales]}, "test")
    output = FasterSeg(architecture, 2).train()(synthetic_images(64, 128, batch=2))
    assert output.logits.shape == (2, 2, 8, 16)
    assert len(output.auxiliary or ()) == {32: 2, 16: 1, 8: 0}[max(scales)]


def test_both_branches_run_a_shared_cell_once():
    network = create_model("fasterseg", 2, architecture=TINY).eval()
    calls = []
    for name, cell in network.cells.items():
        cell.register_forward_hook(lambda *_, name=name: calls.append(name))
    with torch.no_grad():
        network(synthetic_images(64, 64))
    assert sorted(calls) == ["0-0", "1-0", "1-1", "2-0", "2-1", "3-0"]


def test_weights_carry_their_architecture(tmp_path):
    file = tmp_path / "architecture.json"
    file.write_text(json.dumps(TINY))
    network = create_model("fasterseg", 2, architecture=str(file)).eval()
    described = describe_network(network, "fasterseg", 2, {"architecture": str(file)})
    weights = save_weights(tmp_path / "w.safetensors", network.state_dict(), described)
    file.unlink()
    loaded = build_network(read_weights(weights), "w")
    images = synthetic_images(64, 96)
    with torch.no_grad():
        assert torch.equal(loaded(images).logits, network(images).logits)


# The tutor: Yang et al. 2021 print 3.9 M and 100 G; to the unit as a layout of these layers measures.
def test_the_tutor_costs_what_the_paper_prints():
    counted = count("fasterseg_tutor")
    assert counted.parameters_deployed == 3_865_267
    assert counted.conv_macs / 1e9 == pytest.approx(100.49, abs=0.005)


def test_the_tutor_adds_its_path_to_the_refined_eighth():
    network = synthetic_network("fasterseg_tutor", 2)
    images = synthetic_images(64, 64)
    with torch.no_grad():
        features = network.features(images)
        enlarged = F.interpolate(features.fused, size=(16, 16), mode="bilinear", align_corners=True)
        expected = network.path4(network.stem[1](network.stem[0](images))) + network.refine4(enlarged)
        assert torch.equal(network(images).logits, network.heads4(expected))


def test_the_student_s_backbone_carries_over_to_the_tutor():
    student, tutor = create_model("fasterseg_student", 3), create_model("fasterseg_tutor", 5)
    report = carry_over(tutor, student.state_dict(), "backbone", where="student")
    assert all(name.startswith(("path4.", "refine4.", "heads4.", "heads16.", "heads32.")) for name in report.fresh)


def test_the_quarter_path_takes_more_layers():
    longer = create_model("fasterseg_tutor", 2, quarter_path=[16, 16, 32])
    assert len(longer.path4) == 3
    assert longer.heads4.conv_1x1.in_channels == 32
    assert longer.travelling_arguments["quarter_path"] == [16, 16, 32]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("fasterseg_student", {"resize": "bilinaer"}, "did you mean 'bilinear'"),
        ("fasterseg_student", {"head": "pixelshuffle"}, "did you mean 'pixel_shuffle'"),
        ("fasterseg_teacher", {"published_extras": 1}, "must be true or false"),
        ("fasterseg", {"architecture": "absent.json"}, "there is no such file"),
        ("fasterseg", {"architecture": "{stem: [3], " * 100}, r"\.\.\.: there is no such file.*without quotes"),
        ("fasterseg", {"architecture": "fasterseg_studnet"}, "did you mean 'fasterseg_student'"),
        ("fasterseg", {"architecture": 3}, "architecture: is int"),
        ("fasterseg_tutor", {"quarter_path": []}, "must be a list of widths"),
        ("fasterseg_tutor", {"quarter_path": [64, 0]}, "must be a list of widths"),
    ],
)
def test_a_wrong_argument_is_refused(name, arguments, message):
    with pytest.raises(FeathersegError, match=message):
        create_model(name, 2, **arguments)
