"""Every random choice is a pure function of (seed, stream, epoch or step, sample index).

No generator state is ever saved: a resumed run asks for the same numbers again and gets them.
"""

import zlib

import numpy as np


def generator(seed: int, stream: str, *indices: int) -> np.random.Generator:
    """Return the generator that belongs to ``(seed, stream, *indices)``.

    ``stream`` names the use ("order", "augment", "scene"), so that two uses of one seed are independent. One
    use always gives the same number of indices: trailing zeros do not count.

    >>> float(generator(1, "augment", 3, 5).random()) == float(generator(1, "augment", 3, 5).random())
    True
    """
    entropy = [seed & 0xFFFFFFFF, zlib.crc32(stream.encode()), *(int(i) & 0xFFFFFFFF for i in indices)]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))
