"""Whether hear-eval-kit is installed, told without importing it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from hear_axlstm.errors import EvaluationError

KIT_VERSION = "2021.1.3"
IMPORTED = (
    "dcase_util", "intervaltree", "more_itertools", "pandas", "pytorch_lightning", "scipy", "sed_eval", "sklearn", "slugify",
    "torchinfo",
)  # fmt: skip
INSTALL_IMPORTED = "pip install 'hear-axlstm[kit]'"
INSTALL_KIT = f"pip install --no-deps --ignore-requires-python heareval=={KIT_VERSION}"


def require_kit() -> str:
    """The version of hear-eval-kit that is installed.

    Raises EvaluationError, with the commands that install it, when it is missing, or something that it really imports. (The
    rest of what its metadata asks for is not needed, and cannot be installed any more.)
    """
    try:
        found = version("heareval")
    except PackageNotFoundError:
        found = None
    if found is None or find_spec("heareval") is None:
        raise EvaluationError(f"hear-eval-kit is not installed; install it: {INSTALL_IMPORTED} && {INSTALL_KIT}")
    if found != KIT_VERSION:
        raise EvaluationError(f"hear-eval-kit is {found}; expected {KIT_VERSION}, which is what we mend: {INSTALL_KIT}")
    if missing := [name for name in IMPORTED if find_spec(name) is None]:
        raise EvaluationError(
            f"hear-eval-kit imports {', '.join(missing)}, which is missing; install it: {INSTALL_IMPORTED}"
        )
    return found
