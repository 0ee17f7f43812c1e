"""torchvision's models and data sets; all of mlmc_ray imports them from here.

torchvision's wheel on PyPI is built for the CUDA build of torch. Beside the CPU build its compiled
operators do not load, which it puts up with but for two of them: it describes ``nms`` and
``qnms`` to torch's compiler without looking whether they are there, and the import stops with
"operator torchvision::nms does not exist". Neither is used here, so their schemas are declared,
without code, and the import repeated. Where the builds match nothing is declared: a second schema
for an operator that has loaded would end the process.
"""

from torch.library import Library

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def _declare_missing_operators() -> Library:
    """Declare both schemas; they last as long as what is returned."""
    declared = Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        declared.define(f"{name}{_SIGNATURE}")  # type: ignore[no-untyped-call]
    return declared


try:
    from torchvision import datasets, models
except RuntimeError as error:
    if "torchvision::nms does not exist" not in str(error):
        raise
    _declared = _declare_missing_operators()
    from torchvision import datasets, models

__all__ = ["datasets", "models"]
