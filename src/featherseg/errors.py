"""The one exception a person's mistake raises.

Its message says what is wrong, where, and how to mend it. The command line prints it as one line and exits with
code 2; everything else that escapes is a defect of featherseg and keeps its traceback.
"""

import difflib
from collections.abc import Iterable


class FeathersegError(Exception):
    """A mistake the user can mend: wrong input, wrong file, wrong option."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'"`` for the choice most like ``word``, or an empty string.

    The caller ends the sentence.

    >>> nearest("fasd_net", ["fassd_net", "drbanet"])
    "; did you mean 'fassd_net'"
    >>> nearest("zzz", ["fassd_net"])
    ''
    """
    found = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return f"; did you mean {found[0]!r}" if found else ""
