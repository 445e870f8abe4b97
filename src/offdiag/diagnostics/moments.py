"""Mean and covariance of a stream of rows, without the rows."""

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from offdiag._checks import ConfigError
from offdiag._types import Covariance, Embeddings


class Moments:
    """Count, mean and scatter of all rows seen, in float64.

    Memory: 8 dim^2 bytes whatever the number of rows, twice that to read them. The
    result does not depend on how the rows are batched, and a mean that dwarfs the spread
    costs no digits: rows are kept relative to the first row seen, and batches are joined by the
    pairwise rule of Chan, Golub & LeVeque 1979. Rows that are not finite make everything nan;
    no row at all gives nan. `device` is where the sums live; rows are brought there.

    >>> moments = Moments(2)
    >>> moments.update(torch.tensor([[1e6, 0.0], [1e6 + 2, 0.0]]))
    >>> moments.update(torch.tensor([[1e6 + 1, 3.0]]))
    >>> moments.count, moments.mean.tolist()
    (3, [1000001.0, 1.0])
    """

    def __init__(self, dim: int, *, device: torch.device | str = "cpu") -> None:
        self.dim = dim
        self.count = 0
        self._origin = torch.zeros(dim, dtype=torch.float64, device=device)
        self._mean = torch.zeros_like(self._origin)
        self._scatter = self._origin.new_zeros(dim, dim)

    @torch.no_grad()
    def update(self, rows: Embeddings) -> None:
        """Add rows, shape (batch, dim), of any float type."""
        self._check_width(rows.shape[1])
        if len(rows) == 0:
            return
        z = rows.detach().to(self._origin.device, torch.float64)
        if self.count == 0:
            self._origin = z[0].clone()
        z = z - self._origin
        mean = z.mean(0)
        z -= mean
        self._join(len(z), mean)
        self._scatter.addmm_(z.T, z)

    @torch.no_grad()
    def merge(self, other: "Moments") -> None:
        """Add all rows that `other` has seen; `other` stays as it is."""
        self._check_width(other.dim)
        if other.count == 0:
            return
        device = self._origin.device
        if self.count == 0:
            self._origin = other._origin.to(device, copy=True)
        shift = other._origin.to(device) - self._origin
        self._join(other.count, shift + other._mean.to(device))
        self._scatter += other._scatter.to(device)

    @torch.no_grad()
    def all_reduced(self, group: dist.ProcessGroup | None = None) -> "Moments":
        """Moments of the rows of all processes of `group`, the same on each; self is unchanged.

        A copy where torch.distributed is not in use. Every process of the group must call it,
        also one that has seen no rows.
        """
        whole = Moments(self.dim, device=self._origin.device)
        if not (dist.is_available() and dist.is_initialized()):
            whole.merge(self)
            return whole
        # NCCL moves only what is on its GPU; every other backend takes the CPU.
        device = torch.device("cuda" if dist.get_backend(group) == "nccl" else "cpu")
        count = self._origin.new_tensor([float(self.count)])
        mine = torch.cat((count, self._origin, self._mean)).to(device)
        gathered = [torch.empty_like(mine) for _ in range(dist.get_world_size(group))]
        dist.all_gather(gathered, mine, group=group)
        parts = [part.to(self._origin.device) for part in gathered if part[0] > 0]
        if not parts:
            return whole
        whole._origin = parts[0][1 : self.dim + 1].clone()
        counts = torch.stack([part[0] for part in parts])
        means = torch.stack(
            [part[1 : self.dim + 1] - whole._origin + part[self.dim + 1 :] for part in parts]
        )
        whole.count = int(counts.sum())
        whole._mean = (counts[:, None] * means).sum(0) / whole.count
        delta = self._origin - whole._origin + self._mean - whole._mean
        scatter = self._scatter
        if self.count:
            scatter = scatter + self.count * torch.outer(delta, delta)
        scatter = scatter.to(device, copy=True)
        dist.all_reduce(scatter, group=group)
        whole._scatter = scatter.to(self._origin.device)
        return whole

    @property
    def mean(self) -> Float[Tensor, " dim"]:
        """Mean of all rows; nan before the first."""
        return self._origin + self._mean if self.count else self._mean / 0

    def covariance(self) -> Covariance:
        """Centred covariance, divided by n; nan before the first row."""
        return self._scatter / self.count if self.count else self._scatter / 0

    def second_moment(self) -> Covariance:
        """Mean outer product of the rows as they are, divided by n; nan before the first row."""
        return self.covariance() + torch.outer(self.mean, self.mean)

    def _join(self, count: int, mean: Tensor) -> None:
        """Move count and mean, and add to the scatter what the two means' distance makes of it."""
        total = self.count + count
        delta = mean - self._mean
        # In place: of a wide part the matrix is large, and each copy costs a pass over it.
        self._scatter.addr_(delta, delta, alpha=self.count * count / total)
        self._mean = self._mean + delta * (count / total)
        self.count = total

    def _check_width(self, dim: int) -> None:
        if dim != self.dim:
            raise ConfigError(
                f"these moments are of rows of width {self.dim}; got width {dim}. Use one Moments "
                "for each part that is read."
            )
