"""Sliding windows, mirrored images and scales, against the whole image and against sums written out."""

import cv2
import numpy as np
import pytest
import torch
from colour_network import CLASSES, PALETTE, colour_segmenter
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from featherseg.deploy.segmenter import Segmenter, segmenter
from featherseg.deploy.views import View, viewed
from featherseg.deploy.window import blended_bands, window_starts, window_weights
from featherseg.errors import FeathersegError
from featherseg.models.output import InputSpec, SegmentationOutput

ABOUT = {"num_classes": 4, "classes": CLASSES, "palette": PALETTE}
overlaps = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9])


class PixelNetwork(nn.Module):
    """Four linear functions of a pixel's colour: sees no neighbour, and mirrors as its image does."""

    def __init__(self) -> None:
        super().__init__()
        self.input_spec = InputSpec(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), output_stride=1)
        self.weight = nn.Parameter(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), requires_grad=False)

    def forward(self, images: Tensor) -> SegmentationOutput:
        return SegmentationOutput(torch.einsum("kc,bchw->bkhw", self.weight, images))


class PlaceNetwork(PixelNetwork):
    """Says where in its input a pixel lies: no window gives what the whole image does."""

    def forward(self, images: Tensor) -> SegmentationOutput:
        height, width = images.shape[-2:]
        ramp = torch.arange(width).float().expand(height, width) / width
        return SegmentationOutput(torch.stack([ramp, 1 - ramp, ramp * 0 + 0.75, ramp * 0])[None])


def made_of(network: nn.Module) -> Segmenter:
    return segmenter(network, dict(ABOUT))


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


@given(st.integers(1, 300), st.integers(1, 300), overlaps)
def test_windows_cover_the_axis_and_overlap_enough(length, window, overlap):
    starts = window_starts(length, window, overlap)
    if window >= length:
        assert starts == [0]
        return
    assert starts[0] == 0
    assert starts[-1] == length - window
    steps = np.diff(starts)
    assert (steps >= 1).all()
    assert (window - steps >= overlap * window - 1).all()
    assert steps.max() <= max(1, window)
    fewer = len(starts) - 1
    assert fewer == 1 or (length - window) / (fewer - 1) > max(1, int(window * (1 - overlap)))  # none too many


@given(st.integers(1, 300), st.integers(1, 300), overlaps)
def test_weights_sum_to_one_everywhere(length, window, overlap):
    window = min(window, length)
    starts = window_starts(length, window, overlap)
    weights = window_weights(length, window, starts)
    total = np.zeros(length)
    for start, weight in zip(starts, weights, strict=True):
        assert (weight > 0).all()
        total[start : start + window] += weight
    np.testing.assert_allclose(total, 1, atol=1e-6)


@settings(max_examples=25)
@given(
    st.integers(1, 60), st.integers(1, 60), st.integers(1, 40), st.integers(1, 40), overlaps, st.integers(0, 2**32 - 1)
)
def test_windows_of_a_pixelwise_function_give_the_whole_image(height, width, down, across, overlap, seed):
    pixels = noise(height, width, seed)

    def logits_of(part: np.ndarray) -> Tensor:
        return torch.from_numpy(part).permute(2, 0, 1).double()

    bands = list(blended_bands(logits_of, pixels, (down, across), overlap))
    tops = [top for top, _ in bands]
    assert tops == np.cumsum([0, *(band.shape[1] for _, band in bands[:-1])]).tolist()
    blended = torch.cat([band for _, band in bands], dim=1)
    torch.testing.assert_close(blended, logits_of(pixels), atol=1e-3, rtol=0)


def test_a_window_blends_what_its_neighbours_say():
    """Two windows of four over six pixels: the weights of the shared two are 2:1 and 1:2."""
    said = iter([1.0, 4.0])
    (_, band), *rest = blended_bands(lambda part: torch.full((1, 1, 4), next(said)), noise(1, 6), (1, 4), 0.5)
    assert not rest
    torch.testing.assert_close(band[0, 0], torch.tensor([1.0, 1.0, 2.0, 3.0, 4.0, 4.0]))


def test_memory_of_a_band_is_that_of_one_row_of_windows():
    sizes = [
        band.shape for _, band in blended_bands(lambda part: torch.zeros(2, *part.shape[:2]), noise(400, 30), (20, 20))
    ]
    assert max(rows for _, rows, _ in sizes) <= 20
    assert sum(rows for _, rows, _ in sizes) == 400


@pytest.mark.parametrize(
    "view",
    [
        View(window=(16, 24)),
        View(window=(16, 24), overlap=0.5),
        View(window=(500, 700)),
        View(flip=True),
        View(flip=True, window=(17, 23)),
        View(scales=(1.0, 1.0)),
        View(flip=True, scales=(1.0, 1.0), window=(16, 24)),
    ],
    ids=str,
)
def test_a_pixelwise_network_says_the_same_in_every_view(view):
    plain = made_of(PixelNetwork())
    pixels = noise(45, 67)
    assert (viewed(plain, view).predict(pixels).labels == plain.predict(pixels).labels).mean() > 0.999


def test_a_window_larger_than_the_image_is_the_plain_prediction():
    plain = colour_segmenter()
    pixels = noise(45, 67)
    expected = plain.predict(pixels, confidence=True)
    found = viewed(plain, View(window=(45, 100))).predict(pixels, confidence=True)
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_allclose(found.confidence, expected.confidence, rtol=1e-4)


def test_windows_are_seen_by_themselves():
    found = viewed(made_of(PlaceNetwork()), View(window=(4, 10), overlap=0)).predict(noise(4, 20)).labels
    assert found[0].tolist() == 2 * ([1] * 3 + [2] * 5 + [0] * 2)


def test_the_mirrored_image_counts_half():
    """The right half says 0, the left half 1; mirrored it is the other way round, so that nothing but 2 is left."""
    plain = made_of(PlaceNetwork())
    assert set(np.unique(plain.predict(noise(9, 41)).labels)) == {0, 1, 2}
    assert set(np.unique(viewed(plain, View(flip=True)).predict(noise(9, 41)).labels)) == {2}


def test_scales_are_averaged_as_probabilities():
    plain = colour_segmenter()
    pixels = noise(8, 12).repeat(6, 0).repeat(6, 1)
    view = View(scales=(0.5, 1.0, 2.0), flip=True)
    made = viewed(plain, view)
    total = torch.zeros(4, 48, 72)
    for scale in view.scales:
        to = round(48 * scale), round(72 * scale)
        for flip in (False, True):
            how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            shown = cv2.resize(pixels, to[::-1], interpolation=how)[:, :: -1 if flip else 1]
            logits = plain.logits(plain.input_spec.normalise(torch.from_numpy(shown.copy())[None]))
            back = torch.nn.functional.interpolate(logits, size=(48, 72), mode="bilinear", align_corners=False)
            soft = back.softmax(1)[0]
            total += (soft.flip(-1) if flip else soft) / 6
    found = made.predict(pixels, confidence=True)
    assert (found.labels == total.argmax(0).numpy()).mean() > 0.999
    np.testing.assert_allclose(found.confidence, total.max(0).values.numpy(), atol=1e-4)


@pytest.mark.parametrize("scale", [0.5, 1.5])
def test_logits_of_one_scale_are_enlarged_once(scale):
    plain = colour_segmenter()
    pixels = noise(8, 12).repeat(6, 0).repeat(6, 1)
    to = round(48 * scale), round(72 * scale)
    shown = cv2.resize(pixels, to[::-1], interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    logits = plain.session.run(torch.from_numpy(shown)[None])
    at_once = torch.nn.functional.interpolate(
        logits, size=(48, 72), mode="bilinear", align_corners=plain.input_spec.align_corners
    )[0]
    found = viewed(plain, View(scales=(scale,))).predict(pixels, confidence=True)
    assert (found.labels == at_once.argmax(0).numpy()).mean() > 0.999
    np.testing.assert_allclose(found.confidence, at_once.softmax(0).max(0).values.numpy(), atol=1e-4)


def test_a_plain_view_is_the_segmenter_itself():
    plain = colour_segmenter()
    assert viewed(plain, View(scales=(1.0,))) is plain


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"scales": ()}, "above zero"),
        ({"scales": (0.0,)}, "above zero"),
        ({"scales": (float("nan"),)}, "above zero"),
        ({"overlap": 1.0}, "below 1"),
        ({"window": (0, 5)}, "at least 1"),
        ({"window": (9, 9), "letterbox": (9, 9)}, "two ways"),
        ({"pad": (9, 9), "scales": (1.0, 2.0)}, "one size"),
    ],
)
def test_a_view_that_shows_nothing_is_refused(wrong, words):
    with pytest.raises(FeathersegError, match=words):
        View(**wrong)


def test_weights_that_overflow_are_reported_not_painted():
    broken = colour_segmenter()
    broken.network.get_parameter("anchors").fill_(float("nan"))
    with pytest.raises(FeathersegError, match="not finite"):
        viewed(broken, View(flip=True)).predict(noise(9, 9))


class FixedSession:
    """A graph of one size, as far as views know graphs."""

    runtime = "onnx"

    class signature:
        size = (16, 24)

    def __init__(self, output: str) -> None:
        self.output = output
        self.inner = colour_segmenter().session

    def run(self, images: Tensor) -> Tensor:
        assert images.dtype == torch.uint8
        assert tuple(images.shape[1:3]) == self.signature.size
        found = self.inner.run(images)
        if self.output == "logits":
            return found
        return InputSpec(output_stride=4).enlarge(found, self.signature.size).argmax(1).to(torch.uint8)


class FixedSegmenter:
    def __init__(self, output: str) -> None:
        plain = colour_segmenter()
        self.name, self.labels, self.input_spec = "fixed.onnx", plain.labels, plain.input_spec
        self.session = FixedSession(output)


@pytest.mark.parametrize("size", [(16, 24), (61, 83), (48, 40), (32, 90)])
@pytest.mark.parametrize(("output", "view"), [
    ("logits", View(window=(16, 24))),
    ("logits", View(letterbox=(16, 24))),
    ("labels", View(letterbox=(16, 24))),
])  # fmt: skip
def test_a_graph_of_one_size_labels_images_of_any(size, output, view):
    truth = np.zeros(size, np.uint8)
    truth[:, size[1] // 2 :] = 255
    found = viewed(FixedSegmenter(output), view).predict(np.dstack([truth, truth * 0, truth * 0])).labels
    assert found.shape == size
    # A pixel of the graph is so many of the image's; padding shows in the outermost, as every edge does beside it.
    near = 3 * max(size[1] / 24, size[0] / 16, 1)
    place = np.arange(size[1]) + 0.5
    away = (np.abs(place - size[1] // 2) > near) & (place > near) & (place < size[1] - near)
    assert away.any()
    middle = slice(size[0] // 2 - 1, size[0] // 2 + 2)
    np.testing.assert_array_equal(found[middle, away], (truth > 0)[middle, away])


def test_labels_alone_are_neither_averaged_nor_blended():
    for view in (View(flip=True), View(window=(16, 24))):
        with pytest.raises(FeathersegError, match="--ends logits"):
            viewed(FixedSegmenter("labels"), view)


def test_another_size_than_the_graphs_is_refused_at_once():
    with pytest.raises(FeathersegError, match="takes 16x24 alone, and the window is 8x8"):
        viewed(FixedSegmenter("logits"), View(window=(8, 8)))


def test_pixels_reach_the_session_without_a_copy():
    plain = colour_segmenter()
    seen: list[int] = []
    run = plain.session.run
    object.__setattr__(plain.session, "run", lambda images: seen.append(images.data_ptr()) or run(images))
    pixels = noise(30, 40)
    plain.predict(pixels)
    viewed(plain, View(window=(30, 40))).predict(pixels)
    assert seen == [pixels.ctypes.data] * 2
