"""The devices that a model can run on here."""

from __future__ import annotations

import torch


def pick_device(name: str | torch.device = "auto") -> torch.device:
    """The device of a name: "auto" is the first CUDA GPU if there is one, else the CPU.

    Raises:
        ValueError: it is no device's name, or there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"{name!r} is not a device; give auto, cpu, cuda, cuda:1, mps, ...") from error
    accelerators = {"cuda": torch.cuda, "mps": torch.backends.mps, "xpu": torch.xpu}
    backend = accelerators.get(device.type)
    if backend is not None and not backend.is_available():
        raise ValueError(f"there is no {device.type} device here (detkit doctor says why); give --device cpu or auto")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"there is no {device}; there are {torch.cuda.device_count()} CUDA devices, counted from 0")
    return device


def describe_devices() -> list[str]:
    """The CPU and every accelerator, in words."""
    found = [f"cpu: {torch.get_num_threads()} threads"]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        capability = f"compute capability {properties.major}.{properties.minor}"
        found.append(f"cuda:{index}: {properties.name}, {properties.total_memory / 2**30:.0f} GiB, {capability}")
    if torch.backends.mps.is_available():
        found.append("mps: Apple GPU")
    if torch.xpu.is_available():
        found += [f"xpu:{index}: {torch.xpu.get_device_name(index)}" for index in range(torch.xpu.device_count())]
    return found
