"""EfficientNet-Lite0: a further trunk for the mobile DeepLab heads, and the classifier.

EfficientNet (Tan and Le, ICML 2019) without squeeze-and-excitation and with ReLU6 in place of swish, as TensorFlow's
EfficientNet-Lite has it for mobile processors. Stem, blocks and head are those of B0; Lite0 is not scaled.

| blocks | kernel | expansion | out | stride |
|--------|--------|-----------|-----|--------|
| stem   | 3      | -         | 32  | 2      |
| 0      | 3      | 1         | 16  | 1      |
| 1-2    | 3      | 6         | 24  | 2      |
| 3-4    | 5      | 6         | 40  | 2      |
| 5-7    | 3      | 6         | 80  | 2      |
| 8-10   | 5      | 6         | 112 | 1      |
| 11-14  | 5      | 6         | 192 | 2      |
| 15     | 3      | 6         | 320 | 1      |

Design choices:
- TensorFlow's SAME padding, batch norm of eps 1e-3 and momentum 0.01, input (x - 127) / 128: what its published weights
  were trained with, hence the defaults;
- blocks are never dropped in training (the published trainings drop up to a fifth of them).
"""

from featherseg.models.mobile_layers import LayerStyle, Padding
from featherseg.models.mobilenet_v2 import BlockGroup, InvertedResidualClassifier, InvertedResidualTrunk
from featherseg.models.registry import register_model

GROUPS = (
    BlockGroup(1, 16, 1, expansion=1),
    BlockGroup(2, 24, 2),
    BlockGroup(2, 40, 2, kernel=5),
    BlockGroup(3, 80, 2),
    BlockGroup(3, 112, 1, kernel=5),
    BlockGroup(4, 192, 2, kernel=5),
    BlockGroup(1, 320, 1),
)


@register_model("efficientnet_lite0", task="classification")
def efficientnet_lite0(
    num_classes: int = 1000,
    *,
    padding: Padding = "tf_same",
    normalisation: str = "lite",
    norm_eps: float = 1e-3,
    norm_momentum: float = 0.01,
) -> InvertedResidualClassifier:
    """EfficientNet-Lite0, 4,652,008 parameters at 1000 classes."""
    style = LayerStyle(padding, norm_eps, norm_momentum, relu6=True)
    return InvertedResidualClassifier(num_classes, InvertedResidualTrunk(GROUPS, style), style, normalisation)
