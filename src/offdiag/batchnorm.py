"""BatchNorm over the batch of all processes of a run: the numbers are those of one process.

torch's SyncBatchNorm needs an accelerator; the module here does the same on a CPU.
"""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from offdiag._distributed import PerChannel, Rows, moments_over_processes, processes


def normalise_over_processes(rows: Rows, *, eps: float = 1e-5) -> Rows:
    """`torch.nn.functional.batch_norm` without affine, over the rows of all processes."""
    return _normalised(rows, None, None, eps)[0]


class BatchNormOverProcesses(_BatchNorm):
    """BatchNorm of any number of axes whose statistics are those of all processes.

    In evaluation mode it asks nothing of the others. Its state is that of torch's
    BatchNorm, running variance divided by n - 1 included.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"BatchNorm needs at least 2 axes; got {input.dim()}.")

    def forward(self, input: Rows) -> Rows:
        if not self.training or processes() == 1:
            return super().forward(input)
        self._check_input_dim(input)
        rows, mean, variance = _normalised(input, self.weight, self.bias, self.eps)
        if self.running_mean is not None:
            self._follow(mean.detach(), variance.detach(), rows.numel() // rows.shape[1])
        return rows

    def _follow(self, mean: PerChannel, variance: PerChannel, own_rows: int) -> None:
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        rows = own_rows * processes()
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        unbiased = variance * (rows / (rows - 1))
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), share)


def _normalised(
    rows: Rows, weight: PerChannel | None, bias: PerChannel | None, eps: float
) -> tuple[Rows, PerChannel, PerChannel]:
    """The normalised rows, in the type they came in, and the mean and variance used."""
    with torch.autocast(rows.device.type, enabled=False):
        exact = rows if rows.dtype == torch.float64 else rows.float()
        mean, variance = moments_over_processes(exact)
        scale = (variance + eps).rsqrt()
        scale = scale if weight is None else scale * weight
        shift = -mean * scale if bias is None else bias - mean * scale
        shape = (-1,) + (1,) * (rows.ndim - 2)
        scale, shift = (x.to(exact.dtype).view(shape) for x in (scale, shift))
        return torch.addcmul(shift, exact, scale).to(rows.dtype), mean, variance


def share_batchnorm(module: nn.Module, device: torch.device) -> None:
    """Replace every BatchNorm inside `module` by one over all processes, with the same state.

    On CUDA torch's SyncBatchNorm, elsewhere `BatchNormOverProcesses`. Parameters
    and buffers stay the same tensors, so an optimiser that holds them goes on. A part that is
    given the rows of all processes already says so, `sees_whole_batch = True`, and is left.
    """
    for name, child in module.named_children():
        if getattr(child, "sees_whole_batch", False):
            continue
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            if device.type == "cuda":
                shared = nn.SyncBatchNorm.convert_sync_batchnorm(child)  # type: ignore[no-untyped-call]
            else:
                shared = _over_processes(child)
            setattr(module, name, shared)
        else:
            share_batchnorm(child, device)


def _over_processes(norm: _BatchNorm) -> BatchNormOverProcesses:
    shared = BatchNormOverProcesses(
        norm.num_features,
        eps=norm.eps,
        momentum=norm.momentum,
        affine=False,
        track_running_stats=norm.track_running_stats,
    )
    shared.affine = norm.affine
    shared.weight, shared.bias = norm.weight, norm.bias
    for name, buffer in norm.named_buffers(recurse=False):
        setattr(shared, name, buffer)
    return shared.train(norm.training)
