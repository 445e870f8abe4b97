"""What can be done with a trained run: evaluate it again, embed images with it."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch

from offdiag._checks import DataError, RunError
from offdiag._files import write_whole
from offdiag.data.views import Normalisation
from offdiag.evaluation.features import extract
from offdiag.evaluation.protocol import evaluate
from offdiag.methods.method import AbstractMethod
from offdiag.runs.build import build_method, load_splits, pick_device
from offdiag.runs.config import RunConfig
from offdiag.runs.identity import fingerprint, refuse_other_images, refuse_other_method
from offdiag.training.checkpoint import load_checkpoint


class FrozenRun:
    """A run's network at its last checkpoint, in evaluation mode, with what it needs to see."""

    def __init__(
        self, directory: Path, *, method: AbstractMethod | None = None, device: str = "auto"
    ) -> None:
        """Read `directory`; a run of your own `method` needs it again, built in the same way."""
        self.directory = directory
        self.device = pick_device(device)
        state = load_checkpoint(directory, device=self.device)
        try:
            self.config = RunConfig.from_dict(state["config"])
            self.image_shape: tuple[int, int, int] = tuple(state["image_shape"])
            self.normalisation = Normalisation(**state["normalisation"])
            self.step: int = state["progress"]["step"]
            self.images: dict[str, str] = state["images"]
            method_name: str = state["method_name"]
            if method is None:
                method = build_method(self.config, image_channels=self.image_shape[0])
            refuse_other_method(method_name, method, directory)
            self.method = method.to(self.device)
            self.method.load_state_dict(state["method"])
        except RunError:
            raise
        except (KeyError, TypeError, RuntimeError) as error:
            raise RunError(
                f"the checkpoint in {directory} does not fit the method "
                f"({str(error).splitlines()[0]}): restore it, or give the method that was trained."
            ) from error
        self.method.eval()

    def evaluate(self) -> dict[str, Any]:
        """kNN and linear probe of features and projection, on the run's own splits."""
        splits = load_splits(self.config, device=self.device).to(self.device)
        refuse_other_images(self.images, fingerprint(splits), self.directory)
        if splits.train is None or splits.test is None:
            raise DataError(
                f"{self.config.data} has no labels, and kNN and the linear probe need them: "
                "put the images into one sub-folder per class, or use `offdiag embed`."
            )
        train = extract(self.method, splits.train, normalisation=self.normalisation)
        test = extract(self.method, splits.test, normalisation=self.normalisation)
        return {"step": self.step, **evaluate(train, test)}

    def embed(self, data: RunConfig, out: Path) -> int:
        """Write features, projection, labels, split and class names of all of `data` to an npz.

        `split` is 0 for images that training may see and 1 for held-out ones. Returns
        the number of images.
        """
        splits = load_splits(data, device=self.device).to(self.device)
        parts = [splits.pretrain] if splits.test is None else [splits.pretrain, splits.test]
        if parts[0].image_shape != self.image_shape:
            raise DataError(
                f"the run was trained on images of {_told(self.image_shape)}, {data.data} has "
                f"{_told(parts[0].image_shape)}: give an image size, and channels rgb or gray."
            )
        pieces = [extract(self.method, part, normalisation=self.normalisation) for part in parts]
        arrays = {
            "features": torch.cat([piece.features for piece in pieces]).cpu().numpy(),
            "projection": torch.cat([piece.projection for piece in pieces]).cpu().numpy(),
            "split": np.concatenate(
                [np.full(len(part), i, dtype=np.int8) for i, part in enumerate(parts)]
            ),
            "classes": np.array(parts[0].classes, dtype=np.str_),
        }
        labels = [piece.labels for piece in pieces]
        if all(label is not None for label in labels):
            arrays["labels"] = torch.cat([x for x in labels if x is not None]).cpu().numpy()
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        write_whole(out, buffer.getvalue())
        return len(arrays["split"])


def _told(shape: tuple[int, int, int]) -> str:
    channels, height, width = shape
    return f"{channels} channel{'s' if channels > 1 else ''} and {height} x {width} pixels"
