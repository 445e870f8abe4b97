"""Scalars to whatever logger there is."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from offdiag._checks import ConfigError


def logging_to(logger: Any, prefix: str) -> Callable[[Mapping[str, float], int], object]:
    """How to hand scalars to whatever logger this is."""
    write = _writer(logger, prefix)
    return lambda scalars, step: write({prefix + k: v for k, v in scalars.items()}, step)


def _writer(logger: Any, prefix: str) -> Callable[[dict[str, float], int], object]:
    if isinstance(logger, list | tuple):
        writers = [_writer(each, prefix) for each in logger]
        return lambda scalars, step: [write(scalars, step) for write in writers]
    if hasattr(logger, "log_metrics"):
        return lambda scalars, step: logger.log_metrics(scalars, step=step)
    if hasattr(logger, "add_scalar"):
        return lambda scalars, step: [logger.add_scalar(k, v, step) for k, v in scalars.items()]
    if hasattr(logger, "log_dict"):
        return lambda scalars, step: logger.log_dict(scalars)
    if hasattr(logger, "log") and hasattr(logger, "define_metric"):
        # wandb drops what comes with a step below its own count, which each log of the loop moves.
        own = f"{prefix}step"
        logger.define_metric(own)
        logger.define_metric(f"{prefix}*", step_metric=own)
        return lambda scalars, step: logger.log({**scalars, own: step})
    if hasattr(logger, "log") and not isinstance(logger, logging.Logger):
        return lambda scalars, step: logger.log(scalars, step=step)
    if callable(logger):
        return lambda scalars, step: logger(scalars, step)
    raise ConfigError(
        "a logger is a function of (scalars, step), or has log_metrics, add_scalar, log_dict or "
        f"log; got {type(logger).__name__}."
    )
