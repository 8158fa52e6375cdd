"""Every patch that mmcv 1.7, mmdet 2.28 and lvis 0.5 need on today's torch and numpy.

``apply()`` is idempotent and is called before any of the three is imported; lvis alone needs only
``numpy_aliases()``. Each patch has a test in ``tests/compat/test_compat.py`` that fails without it,
and so has the silence as a whole.
"""

import logging
import warnings

import numpy as np

from gol.compat.deferred import deferred_imports


def apply() -> None:
    """Installs all patches."""
    quiet()
    numpy_aliases()
    _mmcv_ops()


def numpy_aliases() -> None:
    """numpy 1.24 removed the aliases: lvis.eval uses ``np.float``, mmdet's samplers ``np.int``."""
    for name, builtin in (("float", float), ("int", int)):
        if name not in vars(np):
            setattr(np, name, builtin)


def _mmcv_ops() -> None:
    """mmcv-full built in an isolated environment has no ``mmcv._ext``, and mmdet imports it."""
    with deferred_imports():
        from gol.compat import ops  # torchvision

    ops.install()


def quiet() -> None:
    """Silences notices of mmcv and torch that a user of this project cannot act on."""
    warnings.filterwarnings("ignore", message="On January 1, 2023, MMCV will release")
    warnings.filterwarnings("ignore", message="torch.meshgrid: in an upcoming release")
    # Older torch knows no other name for it.
    warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")
    # mmcv imports torch's extension builder, which complains on machines with nvcc but no GPU.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    warnings.filterwarnings(
        "ignore", message=".*torch.cuda.amp.*is deprecated", category=FutureWarning
    )
