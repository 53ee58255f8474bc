"""A signal reaches a program in which two of OpenVINO's plugins came and went."""

import subprocess
import sys

import pytest

pytest.importorskip("openvino")

# Another program's plugin, NNCF's for one, comes while ours is there and goes when we no longer need ours.
PROGRAM = """
import os, signal
import numpy, openvino
from openvino import opset13
from featherseg.deploy.openvino import openvino_core

own = openvino_core()
given = opset13.parameter([4], numpy.float32)
others = openvino.Core().compile_model(openvino.Model([opset13.relu(given)], [given]), "CPU")
del own
del others
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_signal_is_handled_after_another_plugin_went():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
