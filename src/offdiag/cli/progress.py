"""A bar that shows how training goes, with the readings that matter."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from offdiag.results.history import Row
from offdiag.runs.train import Watcher

console = Console(highlight=False)


@contextmanager
def training_bar(title: str) -> Iterator[Watcher]:
    """A watcher that draws; on a terminal that cannot redraw, one line for each reading."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.completed:.0f}/{task.total:.0f} steps"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[reading]}"),
        console=console,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task(title, total=None, reading="")

        def started(first: int, last: int) -> None:
            bar.update(task, completed=first, total=last)

        def read(row: Row) -> None:
            if console.is_terminal:
                bar.update(task, reading=reading(row))
            else:
                print(f"epoch {row.epoch:g}: {reading(row)}", flush=True)

        yield Watcher(
            started=started, stepped=lambda step: bar.update(task, completed=step), read=read
        )


def reading(row: Row) -> str:
    """A row in one line: loss, ranks of features and projection, head, kNN."""
    parts = [
        f"loss {row.loss:.4f}",
        f"effective rank {row.features.effective_rank:.1f} -> {row.projection.effective_rank:.1f}",
    ]
    if row.head is not None:
        parts.append(f"head {row.head.off_diagonal_norm:.2f}")
    if row.knn is not None:
        parts.append(f"kNN {row.knn['features']:.3f} -> {row.knn['projection']:.3f}")
    return "  ".join([*parts, f"{row.images_per_second:.0f} images/s"])
