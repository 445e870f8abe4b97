"""What can be done with a trained run: evaluate it again, embed images with it."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from offdiag._checks import DataError, RunError
from offdiag._files import write_whole
from offdiag.data.data import Data
from offdiag.data.dataset import ImageSource, Source
from offdiag.data.views import Normalisation
from offdiag.evaluation.features import extract
from offdiag.evaluation.protocol import evaluate
from offdiag.methods.method import AbstractMethod
from offdiag.runs.build import (
    OwnEncoder,
    build_method,
    load_data,
    own_data_needed,
    pick_device,
)
from offdiag.runs.config import OWN, RunConfig, is_own_file
from offdiag.runs.fingerprint import (
    fingerprint,
    refuse_other_images,
    refuse_other_method,
    shape_of,
)
from offdiag.training.checkpoint import load_checkpoint


class FrozenRun:
    """A run's network at its last checkpoint, in evaluation mode, with what it needs to see."""

    def __init__(
        self,
        directory: Path,
        *,
        data: Data | None = None,
        encoder: OwnEncoder | None = None,
        method: AbstractMethod | None = None,
        device: str = "auto",
    ) -> None:
        """Read `directory`.

        A run of your own data, encoder or method needs them again, built in the same way.
        """
        self.directory = directory
        self.device = pick_device(device)
        state = load_checkpoint(directory, device=self.device)
        try:
            self.config = RunConfig.from_dict(state["config"])
            self.shape: Any = state["image_shape"]
            normalisation = state["normalisation"]
            self.normalisation = None if normalisation is None else Normalisation(**normalisation)
            self.data = data
            self.whole = self._whole()
            self.step: int = state["progress"]["step"]
            self.images: dict[str, str] = state["images"]
            method_name: str = state["method_name"]
            if method is None:
                method = self._built(encoder)
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

    def _whole(self) -> Callable[[Any], Any]:
        if self.normalisation is not None:
            return self.normalisation
        if self.data is None:
            raise RunError(own_data_needed(self.directory, self.config))
        return self.data.whole

    def _built(self, encoder: OwnEncoder | None) -> AbstractMethod:
        if encoder is None and self.data is not None:
            encoder = self.data.encoder
        if self.config.encoder != OWN:
            return build_method(self.config, image_channels=self.shape[0])
        if encoder is None:
            raise RunError(
                f"{self.directory} was trained with an encoder of your own: give it again with "
                "encoder=..., or with the data that bring it."
            )
        return build_method(self.config, encoder=encoder)

    def evaluate(self) -> dict[str, Any]:
        """kNN and linear probe of features and projection, on the run's own splits."""
        data = self._own_data().to(self.device)
        refuse_other_images(self.images, fingerprint(data), self.directory)
        if data.train is None or data.test is None:
            raise DataError(
                f"{self.config.data} has no labels, and kNN and the linear probe need them: "
                "put the images into one sub-folder per class, or use `offdiag embed`."
            )
        train = extract(self.method, data.train, whole=self.whole)
        test = extract(self.method, data.test, whole=self.whole)
        return {"step": self.step, **evaluate(train, test)}

    def _own_data(self) -> Data:
        if self.data is not None:
            return self.data
        if self.config.data == OWN or is_own_file(self.config.data):
            raise RunError(own_data_needed(self.directory, self.config))
        return load_data(self.config, device=self.device, normalisation=self.normalisation)

    def embed(self, data: RunConfig | Data, out: Path) -> int:
        """Write features, projection, labels, split and class names of all of `data` to an npz.

        `split` is 0 for samples that training may see and 1 for held-out ones. Returns
        the number of samples.
        """
        if isinstance(data, Data):
            own = data
        elif data == self.config:
            own = self._own_data()
        else:
            own = load_data(data, device=self.device, normalisation=self.normalisation)
        own = own.to(self.device)
        parts = [own.pretrain] if own.test is None else [own.pretrain, own.test]
        if str(shape_of(parts[0])) != str(self.shape):
            raise DataError(
                f"the run was trained on {_worded(self.shape)}, {parts[0].name} has "
                f"{_worded(shape_of(parts[0]))}{_advice(parts[0])}"
            )
        pieces = [extract(self.method, part, whole=self.whole) for part in parts]
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


def _advice(source: Source) -> str:
    images = isinstance(source, ImageSource)
    return ": give an image size, and channels rgb or gray." if images else "."


def _worded(shape: Any) -> str:
    if (
        isinstance(shape, list | tuple)
        and len(shape) == 3
        and all(isinstance(n, int) for n in shape)
    ):
        channels, height, width = shape
        plural = "s" if channels > 1 else ""
        return f"images of {channels} channel{plural} and {height} x {width} pixels"
    return f"samples of shape {shape}"
