"""TensorFloat-32: products of float32 with ten bits of mantissa, on cards that have them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def tensor_float32(allowed: bool, device: torch.device) -> Iterator[None]:
    """Whether products and convolutions of float32 on a CUDA device may be TensorFloat-32.

    torch's own default allows it to convolutions and not to products. Changes nothing on
    another device: there the same switch would choose other kernels. Put back afterwards.
    """
    if device.type != "cuda":
        yield
        return
    products = torch.get_float32_matmul_precision()
    convolutions = torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions
