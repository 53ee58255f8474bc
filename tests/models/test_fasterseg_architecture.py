"""Architectures from JSON: what is read comes back, and what does not connect is told by its place."""

import json
from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featherseg.errors import FeathersegError
from featherseg.models.fasterseg_architecture import parse, read_architecture
from featherseg.models.fasterseg_cells import OPERATORS
from featherseg.models.fasterseg_published import PUBLISHED


def layer(operator, before, after, stride=1):
    return {"operator": operator, "in": before, "out": after, "stride": stride}


GOOD = {
    "name": "an example",
    "stem": [4, 8, 8],
    "head_width": 8,
    "branches": [
        {"scale": 32, "layers": [layer("conv", 8, 4), layer("conv", 4, 6, 2), layer("conv_2x", 6, 8, 2)]},
        {"scale": 16, "layers": [layer("conv", 8, 4), layer("conv_2x", 4, 6, 2)]},
    ],
}


@st.composite
def branches(draw):
    """A branch that connects, and its scale."""
    strides = draw(st.lists(st.sampled_from([1, 1, 1, 2]), min_size=1, max_size=8).filter(lambda s: s.count(2) < 3))
    channels, layers = 8, []
    for stride in strides:
        operator = draw(st.sampled_from(OPERATORS))
        after = 2 * draw(st.integers(1, 9))
        if operator == "skip" and stride == 1:
            after = channels
        layers.append(layer(operator, channels, after, stride))
        channels = after
    return {"scale": 8 * 2 ** strides.count(2), "layers": layers}


@given(st.lists(branches(), min_size=1, max_size=2))
def test_what_is_written_is_read_again(listed):
    architecture = parse({**GOOD, "branches": listed}, "example")
    written = architecture.to_dict()
    assert parse(json.loads(json.dumps(written)), "written") == architecture
    assert [branch["layers"] for branch in written["branches"]] == [branch["layers"] for branch in listed]


@given(branches(), st.integers(0, 8))
def test_sharing_ends_at_the_first_difference_and_before_a_last_layer(branch, change):
    other = deepcopy(branch)
    for place, one in enumerate(other["layers"]):
        if place == change:
            one["operator"] = "conv" if one["operator"] != "conv" else "conv_2x"
    shared = parse({**GOOD, "branches": [branch, other]}, "example").shared_layers
    assert shared == min(change, len(branch["layers"]) - 1)


def test_stated_sharing_wins_as_far_as_the_layers_are_equal():
    assert parse(GOOD, "example").shared_layers == 1
    assert parse({**GOOD, "shared_layers": 0}, "example").shared_layers == 0
    with pytest.raises(FeathersegError, match="equal in their first 1 layers"):
        parse({**GOOD, "shared_layers": 2}, "example")


def test_the_published_architectures_share_three_and_four_layers():
    assert [PUBLISHED[f"fasterseg_{name}"].shared_layers for name in ("student", "teacher")] == [3, 4]


def changed(*path_and_value):
    *path, last, value = path_and_value
    content = deepcopy(GOOD)
    inner = content
    for key in path:
        inner = inner[key]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return content


FIRST = ("branches", 0, "layers")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed(*FIRST, 1, "operator", "conv2x"), r"branch 1, layer 1: no operator .*did you mean 'conv_2x'"),
        (changed(*FIRST, 1, "in", 5), r"branch 1, layer 1: takes 5 channels, and layer 0 gives 4"),
        (changed(*FIRST, 0, "in", 5), r"branch 1, layer 0: takes 5 channels, and the stem gives 8"),
        (changed("branches", 1, "scale", 32), r"branch 2: is to end at 1/32, .*lead from 1/8 to 1/16"),
        (changed(*FIRST, 0, "stride", 2), r"branch 1: is to end at 1/32, .*lead from 1/8 to 1/64"),
        (changed("branches", 1, "layers", []), r"branch 2: has no layers"),
        (changed(*FIRST, 1, "stride", 3), r"stride is 3"),
        (changed(*FIRST, 1, "out", 0), r"branch 1, layer 1: out: is 0; channels"),
        (changed(*FIRST, 1, "out", 10**9), r"channels are a whole number from 1 to"),
        (changed(*FIRST, 1, "out", True), r"channels are a whole number"),
        (changed(*FIRST, 1, "out", None), r"branch 1, layer 1: lacks 'out'"),
        (changed(*FIRST, 1, "strid", 1), r"unknown 'strid'; did you mean 'stride'"),
        (changed(*FIRST, 0, layer("skip", 8, 4)), r"a skip of stride 1 is the identity"),
        (changed(*FIRST, 1, layer("skip", 4, 5, 2)), r"even number of channels, not 5"),
        (changed(*FIRST, 0, 3), r"branch 1, layer 0: is int"),
        (changed("branches", {}), r"branches: is \{\}; it must be a list"),
        (changed("branches", []), r"has 0 branches"),
        (changed("branches", [GOOD["branches"][0]] * 3), r"has 3 branches"),
        (changed("branches", 0, "scale", 64), r"scale is 64"),
        (changed("stem", [4, 8]), r"stem has 2 widths"),
        (changed("stem", None), r"lacks 'stem'"),
        (changed("head_width", "8"), r"head_width: is '8'"),
        (changed("shared_layers", True), r"shared_layers is True"),
        ([], r"is list; it must be an object"),
    ],
)
def test_what_does_not_connect_is_told_by_its_place(content, message):
    with pytest.raises(FeathersegError, match="^example.*" + message):
        parse(content, "example")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\x00", '{"stem": NaN'])
def test_a_file_that_is_no_json_is_refused_by_its_name(tmp_path, text):
    file = tmp_path / "a.json"
    file.write_text(text)
    with pytest.raises(FeathersegError, match=r"^.*a\.json: no JSON"):
        read_architecture(file)


def test_a_file_that_cannot_be_read_is_refused_by_its_name(tmp_path):
    with pytest.raises(FeathersegError, match=r"absent\.json: cannot read"):
        read_architecture(tmp_path / "absent.json")
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(FeathersegError, match=r"b\.json: no JSON"):
        read_architecture(tmp_path / "b.json")
