"""PyTorch's compiler as a choice of the session: what it is given, and what is told when it fails."""

import numpy as np
import pytest
import torch
from colour_network import ColourNetwork, colour_segmenter

from featherseg.deploy.loading import load
from featherseg.deploy.session import TorchSession
from featherseg.errors import FeathersegError


def test_the_compiled_network_is_what_runs(monkeypatch):
    calls: list[tuple[int, ...]] = []

    def compiler(network):
        def forward(images):
            calls.append(tuple(images.shape))
            return network(images)

        return forward

    monkeypatch.setattr(torch, "compile", compiler)
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (1, 20, 30, 3), np.uint8))
    compiled = TorchSession(ColourNetwork(), compile=True)
    assert torch.equal(compiled.run(images), colour_segmenter().session.run(images))
    assert calls == [(1, 3, 20, 30)]


def test_pytorchs_own_compiler_changes_no_logits(monkeypatch):
    """With its backend that only traces, which needs no C++ compiler."""
    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", lambda network: compiler(network, backend="eager"))
    images = torch.from_numpy(np.random.default_rng(1).integers(0, 255, (1, 20, 30, 3), np.uint8))
    compiled = TorchSession(ColourNetwork(), compile=True)
    torch.testing.assert_close(compiled.run(images), colour_segmenter().session.run(images))


def test_a_compiler_that_fails_is_told_with_a_remedy(monkeypatch):
    from torch._dynamo.exc import TorchDynamoException

    def compiler(network):
        def forward(images):
            raise TorchDynamoException("\nNo working C++ compiler found\nand much more")

        return forward

    monkeypatch.setattr(torch, "compile", compiler)
    with pytest.raises(
        FeathersegError, match=r"cannot be compiled here \(No working C\+\+ compiler found\).*--compile"
    ):
        TorchSession(ColourNetwork(), compile=True).run(torch.zeros(1, 8, 8, 3, dtype=torch.uint8))


def test_files_of_other_runtimes_are_not_compiled(tmp_path):
    with pytest.raises(FeathersegError, match="only PyTorch's own"):
        load(tmp_path / "mine.onnx", compile=True)
