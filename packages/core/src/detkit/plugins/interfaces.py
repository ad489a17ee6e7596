"""Which interface the components of each kind implement."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

INTERFACES: Mapping[str, str] = MappingProxyType(
    {
        "detector": "detkit.detector:Detector",
        "backbone": "detkit.interfaces:Backbone",
        "neck": "detkit.interfaces:Neck",
        "proposal_generator": "detkit.interfaces:ProposalGenerator",
        "roi_head": "detkit.interfaces:RoiHead",
        "dataset": "detkit.interfaces:Dataset",
        "dataset_writer": "detkit.interfaces:DatasetWriter",
        "sampler": "detkit.interfaces:Sampler",
        "transform": "detkit.interfaces:Transform",
        "evaluator": "detkit.interfaces:Evaluator",
        "optimizer": "detkit.interfaces:Optimizer",
        "schedule": "detkit.interfaces:Schedule",
        "callback": "detkit.interfaces:Callback",
        "tracker": "detkit.interfaces:Tracker",
        "checkpoint_format": "detkit.interfaces:CheckpointFormat",
    }
)
"""Kind -> "module:class", for those kinds whose components are classes."""

USERS: Mapping[str, str] = MappingProxyType({"detectron2_mapping": "det_detectron2"})
"""Kind -> the package that uses it, for kinds that core does not. A plugin need not require it: without it, components
of that kind are never asked for, and need not be importable."""
