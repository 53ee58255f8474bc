"""A segmenter: what it takes, where its labels lie, what it refuses."""

import numpy as np
import pytest
import torch
from colour_network import CLASSES, colour_segmenter
from PIL import Image

import featherseg
from featherseg.deploy import segmenter
from featherseg.errors import FeathersegError
from featherseg.models import shipped
from featherseg.models.registry import create_model
from featherseg.models.weights import describe_network, save_weights

COLOURS = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)


@pytest.fixture(scope="module")
def colours():
    return colour_segmenter()


@pytest.fixture(scope="module")
def small_weights(tmp_path_factory):
    torch.manual_seed(0)
    network = create_model("fassd_net_l2", 3)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    about = describe_network(network, "fassd_net_l2", 3) | {"classes": ["a", "b", "c"], "task": "segmentation"}
    return save_weights(path, network.state_dict(), about)


def odd_sizes(count: int) -> list[tuple[int, int]]:
    generator = np.random.default_rng(11)
    return [(int(h) | 1, int(w) | 1) for h, w in generator.integers(17, 150, (count, 2))]


@pytest.mark.parametrize("size", odd_sizes(50), ids=lambda size: f"{size[0]}x{size[1]}")
def test_labels_lie_where_the_image_has_them(colours, size):
    """Edges of a quartered image are found where they are: within half the stride, and not all to one side."""
    height, width = size
    top, left = height // 3, width * 3 // 5
    truth = np.zeros(size, np.uint8)
    truth[:top, left:], truth[top:, :left], truth[top:, left:] = 1, 2, 3
    found = colours.predict(COLOURS[truth]).labels
    assert found.shape == size
    away = np.add.outer(np.abs(np.arange(height) + 0.5 - top) < 4, np.abs(np.arange(width) + 0.5 - left) < 4) > 0
    np.testing.assert_array_equal(found[~away], truth[~away])


def test_edges_are_not_shifted_on_average(colours):
    shifts = []
    for height, width in odd_sizes(50):
        for top in range(height // 4, height * 3 // 4):
            truth = np.zeros((height, width), np.uint8)
            truth[top:] = 3
            found = colours.predict(COLOURS[truth]).labels
            shifts.append(int((found[:, width // 2] == 0).sum()) - top)
            break
        for left in (width // 3, width // 2, width * 2 // 3):
            truth = np.zeros((height, width), np.uint8)
            truth[:, left:] = 1
            found = colours.predict(COLOURS[truth]).labels
            shifts.append(int((found[height // 2] == 0).sum()) - left)
    assert abs(np.mean(shifts)) < 0.25
    assert max(np.abs(shifts)) <= 3


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (33, 1), (2, 3)])
def test_any_size_down_to_one_pixel(small_weights, size):
    result = featherseg.load(small_weights).predict(np.full((*size, 3), 90, np.uint8))
    assert result.labels.shape == size
    assert result.labels.dtype == np.uint8


def test_one_image_is_labelled_alike_alone_and_in_a_batch(small_weights):
    loaded = featherseg.load(small_weights)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 47, 65, 3), np.uint8)
    together = loaded.logits(loaded.input_spec.normalise(torch.from_numpy(pixels)))
    assert together.shape == (3, 3, 47, 65)
    for number in range(3):
        alone = loaded.logits(loaded.input_spec.normalise(torch.from_numpy(pixels[number : number + 1])))
        torch.testing.assert_close(alone[0], together[number], atol=1e-4, rtol=1e-4)


def test_predict_is_the_argmax_of_the_full_size_logits(small_weights):
    loaded = featherseg.load(small_weights)
    pixels = np.random.default_rng(1).integers(0, 256, (50, 71, 3), np.uint8)
    expected = loaded.logits(loaded.input_spec.normalise(torch.from_numpy(pixels[None]))).contiguous().argmax(1)[0]
    np.testing.assert_array_equal(loaded.predict(pixels).labels, expected.numpy())


def test_a_path_an_array_and_a_picture_give_the_same(colours, tmp_path):
    pixels = COLOURS[np.random.default_rng(2).integers(0, 4, (6, 9)).repeat(9, 0).repeat(9, 1)]
    Image.fromarray(pixels).save(tmp_path / "image.png")
    expected = colours.predict(pixels).labels
    for same in (tmp_path / "image.png", str(tmp_path / "image.png"), Image.open(tmp_path / "image.png")):
        np.testing.assert_array_equal(colours.predict(same).labels, expected)


def test_arrays_in_any_memory_order_are_read_right(colours):
    pixels = COLOURS[np.arange(4).repeat(20)[None].repeat(30, 0)]
    expected = colours.predict(pixels).labels
    mirrored = np.ascontiguousarray(pixels[:, ::-1])[:, ::-1]
    read_only = pixels.copy()
    read_only.flags.writeable = False
    for same in (mirrored, np.asfortranarray(pixels), read_only):
        np.testing.assert_array_equal(colours.predict(same).labels, expected)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((4, 4, 3), np.float32), "float32.*uint8"),
        (np.zeros((4, 4, 3), np.uint16), "uint16.*uint8"),
        (np.zeros((4, 4), np.uint8), r"\[4, 4\].*np.repeat"),
        (np.zeros((4, 4, 4), np.uint8), "alpha"),
        (np.zeros((4, 4, 1), np.uint8), "np.repeat"),
        (np.zeros((3, 9, 9), np.uint8), "transpose"),
        (np.zeros((2, 9, 9, 3), np.uint8), "one by one"),
        (np.zeros((0, 9, 3), np.uint8), "at least one pixel"),
        ([[1, 2, 3]], "list"),
        (Image.new("I;16", (4, 4)), "I;16"),
    ],
)
def test_anything_but_an_8_bit_rgb_image_is_refused_with_a_remedy(colours, image, words):
    with pytest.raises(FeathersegError, match=words):
        colours.predict(image)


def test_logits_refuse_pixels_that_are_not_normalised(colours):
    with pytest.raises(FeathersegError, match="normalise"):
        colours.logits(torch.zeros(1, 9, 9, 3, dtype=torch.uint8))


def test_confidence_is_kept_where_it_is_asked_for(colours):
    result = colours.predict(np.zeros((9, 9, 3), np.uint8), confidence=True)
    assert result.confidence is not None
    # exp(0) / (exp(0) + 3 exp(-1)): black is at distance 0 from itself and 1 from the three others.
    np.testing.assert_allclose(result.confidence, 1 / (1 + 3 / np.e), rtol=1e-5)


def test_shipped_weights_are_found_by_name(small_weights, tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path)
    (tmp_path / "fassd_net_l2.tiny.safetensors").write_bytes(small_weights.read_bytes())
    assert shipped.list_weights() == ["fassd_net_l2.tiny"]
    loaded = featherseg.load("fassd_net_l2.tiny")
    assert loaded.labels.classes == ("a", "b", "c")
    assert len(set(loaded.labels.palette)) == 3
    with pytest.raises(FeathersegError, match=r"did you mean 'fassd_net_l2.tiny'.*Shipped: fassd_net_l2.tiny"):
        featherseg.load("fassd_net_l2.tinny")


def test_a_folder_in_place_of_weights_names_the_file_inside(small_weights):
    with pytest.raises(FeathersegError, match=r"a folder.*small\.safetensors"):
        featherseg.load(small_weights.parent)


def test_a_classifier_gives_no_label_map(tmp_path):
    network = create_model("hardnet_petite", 5)
    about = describe_network(network, "hardnet_petite", 5)
    path = save_weights(tmp_path / "classifier.safetensors", network.state_dict(), about)
    with pytest.raises(FeathersegError, match=r"classifier.*start\.encoder"):
        segmenter.load(path)


@pytest.mark.parametrize(
    "change", [{"classes": ["a"]}, {"palette": [[0, 0, 0]]}, {"palette": [[0, 0, 300]] * 3}, {"palette": 7}]
)
def test_classes_that_do_not_fit_the_network_are_refused(small_weights, tmp_path, change):
    from featherseg.models.weights import read_weights

    weights = read_weights(small_weights)
    path = save_weights(tmp_path / "w.safetensors", weights.tensors, weights.metadata | change)
    with pytest.raises(FeathersegError, match="classes or palette"):
        featherseg.load(path)


def test_an_imported_network_saves_and_loads_as_itself(tmp_path):
    torch.manual_seed(1)
    network = create_model("fassd_net_l2", 4).eval()
    torch.save({"model_state": {f"module.{k}": v for k, v in network.state_dict().items()}}, tmp_path / "theirs.pth")
    imported = featherseg.import_weights("fassd_net_l2", tmp_path / "theirs.pth")
    assert imported.import_report is not None
    assert imported.import_report.complete
    assert imported.metadata["provenance"]["imported_from"] == "theirs.pth"
    pixels = np.random.default_rng(4).integers(0, 256, (40, 56, 3), np.uint8)
    imported.save(tmp_path / "ours.safetensors")
    loaded = featherseg.load(tmp_path / "ours.safetensors")
    np.testing.assert_array_equal(loaded.predict(pixels).labels, imported.predict(pixels).labels)


def test_class_names_must_be_as_many_as_the_file_has(tmp_path):
    torch.save(create_model("fassd_net_l2", 3).state_dict(), tmp_path / "theirs.pth")
    with pytest.raises(FeathersegError, match="gives 3 classes, and colours has 4"):
        featherseg.import_weights("fassd_net_l2", tmp_path / "theirs.pth", labels=colour_segmenter().labels)


def test_weights_that_overflow_are_reported_not_painted():
    broken = colour_segmenter()
    with torch.no_grad():
        broken.network.get_parameter("anchors").fill_(float("nan"))
    with pytest.raises(FeathersegError, match="not finite"):
        broken.predict(np.zeros((9, 9, 3), np.uint8))


@pytest.mark.parametrize("device", ["gpu", "meta", "mps"])
def test_an_unknown_device_is_refused(small_weights, device):
    with pytest.raises(FeathersegError, match=f"device '{device}'"):
        featherseg.load(small_weights, device=device)


def test_an_unknown_precision_is_refused(small_weights):
    with pytest.raises(FeathersegError, match=r"precision 'fp16'.*fp32, bf16"):
        featherseg.load(small_weights, precision="fp16")  # type: ignore[arg-type]


def test_the_stub_has_the_classes_the_tests_count_on(colours):
    assert list(colours.labels.classes) == CLASSES


@pytest.mark.parametrize("wrong", [None, 3, ["fassd_net_l2.camvid"]])
def test_weights_of_another_type_than_a_path_are_refused(wrong):
    with pytest.raises(FeathersegError, match="a path or a name"):
        featherseg.load(wrong)


def test_logits_take_double_tensors_and_refuse_arrays():
    network = colour_segmenter()
    images = torch.rand(1, 3, 8, 8)
    assert torch.equal(network.logits(images.double()), network.logits(images))
    with pytest.raises(FeathersegError, match=r"ndarray.*input_spec\.normalise"):
        network.logits(images.numpy())  # type: ignore[arg-type]
