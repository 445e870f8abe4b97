"""What a number travels with: versions, machine, date."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "torchvision", "lightning-fabric", "numpy", "scipy", "scikit-learn")


def circumstances(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Versions, machine and date of a measurement, as plain values."""
    device = torch.device(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "device": f"{device.type}: {name}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.platform(terse=True),
        "versions": {"offdiag": version("offdiag"), "python": platform.python_version()}
        | {package: version(package) for package in PACKAGES},
    }


def processor() -> str:
    """The processor's name, as well as the system tells it."""
    table = Path("/proc/cpuinfo")
    if table.exists():
        for line in table.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
