"""What a network computes otherwise than the one that its weights come from is told, and wrong routing is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from featherseg.errors import FeathersegError
from featherseg.models.carry_differences import computed_otherwise
from featherseg.models.importer import import_encoder
from featherseg.models.output import InputSpec
from featherseg.models.registry import create_model, filled_arguments
from featherseg.models.weights import describe_network, save_weights


def described(name: str, **arguments: Any) -> dict[str, Any]:
    with torch.device("meta"):
        return describe_network(create_model(name, 5, **arguments), name, 5, arguments)


def told(there: dict[str, Any], here: dict[str, Any], part: str = "everything") -> list[str]:
    return computed_otherwise(there, here, part, where="w")  # type: ignore[arg-type]


def named(lines: list[str]) -> list[str]:
    """The arguments that lines say to give."""
    return [line.rpartition("give ")[2] for line in lines]


@pytest.mark.parametrize("part", ["everything", "all_but_logits", "backbone"])
def test_the_same_network_differs_in_nothing_whether_its_defaults_are_written_out_or_not(part: str) -> None:
    spelt = {"routing": "tf", "padding": "symmetric", "dilation": "paper", "decoder": False}
    assert told(described("shufflenet_v2_dpc"), described("shufflenet_v2_dpc", **spelt), part) == []


@pytest.mark.parametrize("part", ["everything", "all_but_logits", "backbone"])
def test_channels_that_are_routed_otherwise_are_refused(part: str) -> None:
    there, here = described("shufflenet_v2_dpc"), described("shufflenet_v2_dpc", routing="torchvision")
    message = "w: its channels are routed as in tf, this network's as in torchvision; .* Give routing=tf"
    with pytest.raises(FeathersegError, match=message):
        told(there, here, part)


def test_routing_is_refused_between_a_classifier_and_a_network_with_a_head() -> None:
    with pytest.raises(FeathersegError, match="routed as in torchvision, this network's as in tf"):
        told(described("shufflenet_v2"), described("shufflenet_v2_dpc", stage2_mid_channels=58), "backbone")


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("shufflenet_v2_dpc", {"normalisation": "imagenet"}, "normalisation unit, this one imagenet"),
        ("shufflenet_v2_dpc", {"padding": "tf_same"}, "padding symmetric, this one tf_same"),
        ("shufflenet_v2_dpc", {"dilation": "released"}, "dilation paper, this one released"),
        ("shufflenet_v2_dpc", {"backbone_eps": 1e-5}, "backbone_eps 1.0e-03, this one 1.0e-05"),
        ("mobilenet_v2_dpc", {"output_stride": 8}, "output_stride 16, this one 8"),
        ("drbanet", {"bfm": "sequential"}, "bfm parallel, this one sequential"),
        ("fasterseg_student", {"resize": "nearest"}, "resize bilinear, this one nearest"),
        ("mobilenet_v2", {"padding": "tf_same"}, "padding symmetric, this one tf_same"),
    ],
)
@pytest.mark.parametrize("part", ["everything", "backbone"])
def test_what_tensors_do_not_show_is_told_in_one_line_with_both_values(
    name: str, arguments: dict[str, Any], sentence: str, part: str
) -> None:
    (line,) = told(described(name), described(name, **arguments), part)
    assert line.startswith(f"the file's network has {sentence}: to compute the same, give ")


def test_every_difference_has_its_line() -> None:
    here = described("shufflenet_v2_dpc", padding="tf_same", normalisation="lite", dilation="released")
    assert set(named(told(described("shufflenet_v2_dpc"), here))) == {
        "padding=symmetric",
        "normalisation=unit",
        "dilation=paper",
    }


@pytest.mark.parametrize("part", ["everything", "backbone"])
def test_what_only_training_uses_is_no_difference(part: str) -> None:
    here = described("shufflenet_v2_dpc", dropout=0.5, norm_momentum=0.3)
    assert told(described("shufflenet_v2_dpc"), here, part) == []


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("shufflenet_v2_dpc", {"decoder": True, "input_scale": 2.0}),
        ("drbanet", {"elppm": "pre"}),
        ("mobilenet_v2_basic", {"head": "pixel_shuffle"}),
    ],
)
def test_what_lies_outside_the_backbone_is_no_difference_where_that_alone_is_carried(
    name: str, arguments: dict[str, Any]
) -> None:
    assert told(described(name), described(name, **arguments), "backbone") == []


def test_another_scale_of_the_input_is_told_where_the_head_is_carried_too() -> None:
    lines = told(described("shufflenet_v2_dpc"), described("shufflenet_v2_dpc", input_scale=2.0), "all_but_logits")
    assert named(lines) == ["input_scale=1.0"]


def test_a_classifiers_eps_is_compared_with_its_name_in_a_network_with_a_head() -> None:
    here = described("mobilenet_v2_dpc", normalisation="imagenet", output_stride=32)
    assert named(told(described("mobilenet_v2"), here, "backbone")) == ["backbone_eps=1.0e-05"]


def test_variants_that_differ_in_a_stride_alone_are_told_by_the_layer() -> None:
    (line,) = told(described("fassd_net"), described("fassd_net_l1"), "backbone")
    assert line == "the file's network has base.0.conv with stride (2, 2), this one (3, 3)"


@pytest.mark.parametrize(
    ("there", "here"),
    [
        (("pyramid_mobilenet", {"rates": "capped"}), ("pyramid_rpn", {})),
        (("pyramid_mobilenet", {"rates": "capped"}), ("pyramid_rpn_multi", {"trunk_arguments": {"reading": "split"}})),
        (("pyramid_mobilenet", {}), ("pyramid_rpn", {"trunk_arguments": {"rates": [1, 2]}})),
        (("pyramid_mobilenet", {"rates": "capped"}), ("pyramid_mobilenet_basic", {"output_stride": 32})),
        (("pyramid_rpn", {"trunk_arguments": {"rates": "capped"}}), ("pyramid_mobilenet_basic", {"output_stride": 32})),
        (("pyramid_rpn", {"trunk_arguments": {"rates": "capped"}}), ("pyramid_mobilenet", {})),
        (("pyramid_rpn", {"trunk_arguments": {"rates": "capped"}}), ("pyramid_rpn_multi", {})),
    ],
    ids=str,
)
def test_the_advice_on_another_trunk_is_one_line_that_can_be_followed(
    there: tuple[str, dict[str, Any]], here: tuple[str, dict[str, Any]]
) -> None:
    theirs = described(there[0], **there[1])
    (line,) = told(theirs, described(here[0], **here[1]), "backbone")
    assert len(line) < 140
    argument, _, value = line.rpartition("give ")[2].partition("=")
    followed = described(here[0], **here[1] | {argument: yaml.safe_load(value)})
    assert told(theirs, followed, "backbone") == []


def test_the_report_of_an_encoder_gives_the_same_advice(tmp_path: Path) -> None:
    classifier = create_model("pyramid_mobilenet", 5, rates="capped")
    about = describe_network(classifier, "pyramid_mobilenet", 5, {"rates": "capped"})
    path = save_weights(tmp_path / "classifier.safetensors", classifier.state_dict(), about)
    for name, arguments in (("pyramid_rpn", {}), ("pyramid_mobilenet_basic", {"output_stride": 32})):
        network = create_model(name, 5, **arguments)
        notes = [note for note in import_encoder(network, path).notes if "rates" in note]
        assert notes == told(about, described(name, **arguments), "backbone")


def test_rates_of_their_own_in_every_layer_are_named_and_not_printed() -> None:
    there = described("pyramid_mobilenet", rates=[[1, 2]] * 8 + [[1]] * 9)
    assert told(there, described("pyramid_rpn"), "backbone") == ["the file's network has another rates than this one"]


def test_an_input_that_was_altered_by_hand_is_told() -> None:
    there = described("drbanet")
    there["input_spec"] = InputSpec(**there["input_spec"] | {"color_order": "BGR"}).to_dict()
    assert told(there, described("drbanet"), "backbone") == [
        "the file's network has the input with color_order BGR, this one RGB"
    ]


def test_a_searched_architecture_is_named_and_not_printed() -> None:
    there = described("fasterseg", architecture="fasterseg_student")
    here = described("fasterseg", architecture="fasterseg_teacher")
    assert told(there, here, "all_but_logits")[0] == "the file's network has another architecture than this one"


@pytest.mark.parametrize(
    "there",
    [
        {"architecture": "of another program", "arguments": {}, "input_spec": {}},
        {"architecture": "drbanet"},
        {"architecture": "drbanet", "arguments": {"bfm": 3}, "input_spec": InputSpec().to_dict()},
        {"architecture": "drbanet", "arguments": None, "input_spec": None},
    ],
    ids=["unknown", "no arguments", "garbled", "empty"],
)
def test_of_a_file_that_describes_no_network_nothing_is_told(there: dict[str, Any]) -> None:
    assert told(there, described("drbanet")) == []


@pytest.mark.parametrize("name", ["shufflenet_v2_dpc", "fasterseg_tutor", "mobilenet_v2", "pyramid_rpn"])
def test_filled_arguments_build_the_network_of_the_defaults(name: str) -> None:
    filled = filled_arguments(name, {})
    with torch.device("meta"):
        assert create_model(name, 5, **filled).state_dict().keys() == create_model(name, 5).state_dict().keys()
