"""ExecuTorch's files: parity, metadata, threads, spoilt and foreign ones; run where the extra is installed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from lively import blots
from PIL import Image
from small_network import ABOUT, small_network, small_segmenter

import featherseg
from featherseg.cli.main import main
from featherseg.deploy.export import export
from featherseg.errors import FeathersegError

pytest.importorskip("executorch", reason="the extra `executorch` is not installed (executorch)")

from featherseg.deploy import executorch

SIZE = (40, 57)


@pytest.fixture(scope="module")
def bare() -> bytes:
    """A program without metadata."""
    return executorch.convert(executorch.make_graph(small_network(), size=SIZE, batch=1, output="logits"))


@pytest.fixture(scope="module")
def file(bare: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``export`` writes of it."""
    target = tmp_path_factory.mktemp("executorch") / "small.pte"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executorch, "convert", lambda graph: bare)
        report = export(small_network(), described(), "executorch", target, size=SIZE)
    assert report.file == target
    assert report.parity.passed
    return target


def described() -> dict:
    return ABOUT | {"input_spec": small_network().input_spec.to_dict()}


def test_a_file_labels_as_pytorch_does(file):
    image = blots(3, 1, SIZE)[0]
    expected = small_segmenter().predict(image).labels
    np.testing.assert_array_equal(featherseg.load(file).predict(image).labels, expected)
    assert len(np.unique(expected)) > 2, "a picture with so few labels would prove nothing"


def test_the_graph_goes_to_xnnpack_but_for_turning_pixels_into_floats(bare):
    found = executorch.operators(bare)
    assert found.pop("XnnpackBackend") == 1
    assert set(found) <= {"aten::permute_copy", "dim_order_ops::_to_dim_order_copy"}


def test_the_metadata_travel_inside(file):
    loaded = featherseg.load(file)
    assert loaded.labels.classes == tuple(ABOUT["classes"])
    assert loaded.input_spec == small_network().input_spec
    assert loaded.metadata["export"]["size"] == list(SIZE)
    assert loaded.metadata["export"]["parity"]["passed"] is True


def test_metadata_are_replaced_and_leave_the_program_alone(bare, file):
    again = executorch.with_metadata(executorch.with_metadata(bare, {"a": 1}), featherseg.load(file).metadata)
    assert again == file.read_bytes()
    assert executorch.operators(again) == executorch.operators(bare)


def test_a_graph_can_end_in_labels(tmp_path):
    report = export(small_network(), described(), "executorch", tmp_path / "a.pte", size=SIZE, ends="labels")
    assert report.parity.passed
    found = featherseg.load(tmp_path / "a.pte").session.run(torch.from_numpy(blots(3, 1, SIZE)))
    assert (found.dtype, tuple(found.shape)) == (torch.uint8, (1, *SIZE))


def test_several_images_are_given_in_turn(file):
    session = featherseg.load(file).session
    images = torch.from_numpy(blots(4, 3, SIZE))
    torch.testing.assert_close(session.run(images), torch.cat([session.run(image[None]) for image in images]))


def test_what_was_given_out_stays_as_it_is(file):
    session = featherseg.load(file).session
    first, second = torch.from_numpy(blots(5, 2, SIZE)).split(1)
    found = session.run(first)
    kept = found.clone()
    session.run(second)
    torch.testing.assert_close(found, kept, rtol=0, atol=0)


def test_pixels_that_lie_otherwise_in_memory_give_the_same(file):
    session = featherseg.load(file).session
    images = torch.from_numpy(blots(6, 1, SIZE))
    turned = images.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    assert not turned.is_contiguous()
    torch.testing.assert_close(session.run(turned), session.run(images), rtol=0, atol=0)


def test_an_image_of_another_size_is_refused(file):
    with pytest.raises(FeathersegError, match=r"41x57.*takes 40x57 alone"):
        featherseg.load(file).predict(np.zeros((41, 57, 3), np.uint8))


def test_opening_and_running_print_nothing(file, capfd):
    featherseg.load(file).predict(blots(7, 1, SIZE)[0])
    assert capfd.readouterr() == ("", "")


def test_open_files_share_their_threads_and_another_number_is_refused(file):
    first = featherseg.load(file, threads=2)
    second = featherseg.load(file)
    with pytest.raises(FeathersegError, match=r"one pool of threads a process\. It has 2"):
        featherseg.load(file, threads=1)
    image = blots(8, 1, SIZE)[0]
    np.testing.assert_array_equal(first.predict(image).labels, second.predict(image).labels)
    del first, second
    np.testing.assert_array_equal(
        featherseg.load(file, threads=1).predict(image).labels, small_segmenter().predict(image).labels
    )


@pytest.mark.parametrize(("name", "value"), [("device", "cuda"), ("precision", "bf16")])
def test_what_it_does_not_have_is_refused(file, name, value):
    with pytest.raises(FeathersegError, match="runs on the CPU here, in the precision of the file"):
        featherseg.load(file, **{name: value})


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_file_cut_short_is_refused(file, tmp_path, share):
    content = file.read_bytes()
    (tmp_path / "cut.pte").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(FeathersegError, match=r"cut\.pte: ExecuTorch .* does not take it .*cut short"):
        featherseg.load(tmp_path / "cut.pte")


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "a.pte").write_bytes(b"PK\x03\x04 not a program")
    with pytest.raises(FeathersegError, match="does not take it"):
        featherseg.load(tmp_path / "a.pte")


def test_a_file_of_a_later_format_asks_for_an_upgrade(file, tmp_path):
    values = featherseg.load(file).metadata | {"format": 99}
    (tmp_path / "a.pte").write_bytes(executorch.with_metadata(file.read_bytes(), values))
    with pytest.raises(FeathersegError, match=r"format 99.*Upgrade featherseg"):
        featherseg.load(tmp_path / "a.pte")


def test_a_file_of_another_program_is_taken_with_its_classes(bare, tmp_path):
    (tmp_path / "a.pte").write_bytes(bare)
    with pytest.raises(FeathersegError, match=r"no metadata.*--classes"):
        featherseg.load(tmp_path / "a.pte")
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\ne\n")
    named = featherseg.load(tmp_path / "a.pte", classes=tmp_path / "names.txt")
    assert named.labels.classes == tuple("abcde")


def test_an_export_that_labels_otherwise_is_not_saved(bare, monkeypatch, tmp_path):
    monkeypatch.setattr(executorch, "convert", lambda graph: bare)
    network = small_network()
    with torch.no_grad():
        network.layers[-1].bias[0] += 1.0  # type: ignore[index,union-attr,operator]
    report = export(network, described(), "executorch", tmp_path / "a.pte", size=SIZE)
    assert report.file is None
    assert not list(tmp_path.iterdir())


def test_a_network_that_cannot_be_traced_is_refused_in_one_message(tmp_path):
    class Undecided(type(small_network())):
        def forward(self, images):
            return super().forward(images / 2 if float(images.sum()) > 0 else images)

    with pytest.raises(FeathersegError, match=r"the conversion failed inside ExecuTorch's packages"):
        export(Undecided().eval(), described(), "executorch", tmp_path / "a.pte", size=SIZE)


def test_the_command_predicts_with_the_file(file, tmp_path):
    image = blots(9, 1, SIZE)[0]
    Image.fromarray(image).save(tmp_path / "photo.png")
    assert main(["predict", str(tmp_path / "photo.png"), "-w", str(file), "-o", str(tmp_path / "out")]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"photo_overlay.png"}
