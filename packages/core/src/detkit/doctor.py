"""What is installed, what it runs on, what is wrong with it and how to mend that."""

from __future__ import annotations

import importlib
import io
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

from packaging.requirements import InvalidRequirement, Requirement

from detkit.plugins import environment, registry

_GIB = 2**30
_LEAST_DISK = 2 * _GIB  # a run of Mask R-CNN keeps about 1 GiB of checkpoints
_LEAST_SHARED = 2**29  # batches of large images pass from workers through shared memory


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    section: system, versions, devices, plugins, extras, decoders, space.
    name, value: what was looked at, and what was found.
    level: a `problem` keeps something from working; a `note` may explain something.
    remedy: what to do about it; empty where all is well.
    """

    section: str
    name: str
    value: str
    level: Literal["ok", "note", "problem"] = "ok"
    remedy: str = ""


def examine() -> list[Finding]:
    """Look at everything. An examination that fails is itself a finding, so that no defect hides the others."""
    findings: list[Finding] = []
    for section, look in _SECTIONS.items():
        try:
            findings += look()
        except Exception as error:  # whatever is broken here is what people came for
            message = f"{type(error).__name__}: {error}"
            findings.append(Finding(section, section, message, "problem", "this could not be examined; install anew"))
    return findings


def _system() -> Iterator[Finding]:
    yield Finding("system", "python", f"{platform.python_version()} ({sys.executable})")
    yield Finding("system", "operating system", platform.platform())
    yield Finding("system", "processors", f"{os.cpu_count()} ({platform.machine()})")


def _versions() -> Iterator[Finding]:
    """Versions of the distributions that matter, each compared with what it requires of the others."""
    plugins = [info.name for info in registry().plugins() if info.state == "loaded"]
    for name in dict.fromkeys(("torch", "torchvision", "numpy", "pillow", "det-core", *plugins)):
        try:
            version, requirements = metadata.version(name), metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            yield Finding("versions", name, "not installed", "problem", f"pip install {name}")
            continue
        wrong = [problem for text in requirements if (problem := _unmet(text))]
        remedy = f"pip install --upgrade --force-reinstall {name}" if wrong else ""
        value = f"{version}; needs {', '.join(wrong)}" if wrong else version
        yield Finding("versions", name, value, "problem" if wrong else "ok", remedy)


def _unmet(text: str) -> str:
    """What is wrong with a requirement in this environment, in words; empty if it is met or does not apply."""
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return ""
    if not _applies(requirement):
        return ""
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement}, which is missing"
    return "" if requirement.specifier.contains(version, prereleases=True) else f"{requirement}, not {version}"


def _applies(requirement: Requirement, extra: str = "") -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _devices() -> Iterator[Finding]:
    import torch
    from torchvision.ops import nms

    from detkit.devices import describe_devices

    for description in describe_devices():
        name, _, value = description.partition(": ")
        try:
            box = torch.tensor([[0.0, 0.0, 2.0, 2.0]], device=name)
            nms(box @ torch.eye(4, device=name), torch.ones(1, device=name), 0.5)
        except (RuntimeError, NotImplementedError) as error:
            first = str(error).strip().splitlines()[0]
            remedy = "install torch and torchvision of one release for this device: https://pytorch.org/get-started"
            yield Finding("devices", name, f"{value}; does not compute: {first}", "problem", remedy)
        else:
            yield Finding("devices", name, value)
    if not torch.cuda.is_available() and shutil.which("nvidia-smi"):
        if torch.version.cuda is None:
            reason, remedy = "this torch is built without CUDA", "install a CUDA build: https://pytorch.org/get-started"
        else:
            reason = f"torch is built for CUDA {torch.version.cuda} and cannot use the driver"
            remedy = "update the NVIDIA driver, or look at CUDA_VISIBLE_DEVICES"
        yield Finding("devices", "cuda", f"there is an NVIDIA driver, but {reason}", "problem", remedy)


def _plugins() -> Iterator[Finding]:
    for info in registry().plugins():
        version = f"{info.version}, " if info.version else ""
        if info.state in ("loaded", "disabled"):
            yield Finding("plugins", info.name, f"{version}{info.state}, {len(info.components)} components")
        else:
            value = f"{version}{info.state}: {info.problem}"
            yield Finding("plugins", info.name, value, "problem", f"detkit plugins check {info.name}")
    for kind, name in sorted({(component.kind, component.name) for component in registry().components()}):
        providers = [info.name for info in registry().providers(kind, name)]
        if len(providers) > 1:
            value = f"provided by {' and '.join(providers)}"
            remedy = f"uninstall one, or set DETKIT_DISABLE_PLUGINS={providers[0]}"
            yield Finding("plugins", f"{kind} {name}", value, "problem", remedy)
    for plugin, facts in environment().items():
        for name, value in facts.items():
            level: Literal["ok", "note"] = "note" if name == "error" else "ok"
            yield Finding("plugins", f"{plugin}: {name}", value, level)


def _extras() -> Iterator[Finding]:
    """Which optional parts of the plugins' distributions are there."""
    for info in registry().plugins():
        try:
            found = metadata.metadata(info.name)
        except metadata.PackageNotFoundError:  # registered by a program, not installed
            continue
        requirements = [Requirement(text) for text in metadata.requires(info.name) or []]
        for extra in sorted(found.get_all("Provides-Extra") or []):
            asked = [each for each in requirements if "extra" in str(each.marker) and _applies(each, extra)]
            missing = [each.name for each in asked if _unmet(f"{each.name}{each.specifier}")]
            name = f"{info.name}[{extra}]"
            if missing:
                yield Finding("extras", name, f"absent ({', '.join(missing)})", "note", f"pip install '{name}'")
            else:
                yield Finding("extras", name, "present")


def _decoders() -> Iterator[Finding]:
    from PIL import Image, features

    try:
        importlib.import_module("torchcodec.decoders")
    except ImportError:
        yield Finding("decoders", "torchcodec", "absent; Pillow decodes images", "note", "pip install torchcodec")
    except (OSError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        remedy = "pip install --upgrade torchcodec, of torch's release; until then Pillow decodes images"
        yield Finding("decoders", "torchcodec", f"does not load: {first}", "note", remedy)
    else:
        yield Finding("decoders", "torchcodec", metadata.version("torchcodec"))
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    Image.open(file).load()
    known = [name for feature, name in _FORMATS.items() if features.check(feature)]
    yield Finding("decoders", "Pillow", f"{metadata.version('pillow')}, with {', '.join(known)}")


def _space() -> Iterator[Finding]:
    free = shutil.disk_usage(".").free
    level: Literal["ok", "problem"] = "ok" if free >= _LEAST_DISK else "problem"
    remedy = "" if level == "ok" else "free some space, or work in another folder: checkpoints need room"
    yield Finding("space", "this folder", f"{free / _GIB:.1f} GiB free", level, remedy)
    if os.path.isdir("/dev/shm"):
        shared = shutil.disk_usage("/dev/shm").total
        small = shared < _LEAST_SHARED
        remedy = "start the container with --shm-size=4g, or train with train.workers=0" if small else ""
        yield Finding("space", "shared memory", f"{shared / _GIB:.1f} GiB", "note" if small else "ok", remedy)


_FORMATS = {"jpg": "JPEG", "zlib": "PNG", "webp": "WebP", "avif": "AVIF", "libtiff": "TIFF"}

_SECTIONS: dict[str, Callable[[], Iterator[Finding]]] = {
    "system": _system,
    "versions": _versions,
    "devices": _devices,
    "plugins": _plugins,
    "extras": _extras,
    "decoders": _decoders,
    "space": _space,
}
