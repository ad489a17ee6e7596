"""The interfaces that plugins implement: one class for each kind of component that the core calls.

A class attribute `kind` ties an interface to the kind that a plugin declares (`Component(kind="backbone", ...)`), and
lets a constructor argument annotated with it be a slot in a config.
"""

from __future__ import annotations

from detkit.interfaces.data import Dataset, DatasetWriter, Evaluator, MixingTransform, Sampler, Transform
from detkit.interfaces.models import Backbone, Neck, ProposalGenerator, RoiHead, RoiSamples, RoiTrunk, SemanticHead
from detkit.interfaces.training import Callback, CheckpointFormat, Optimizer, Schedule, Tracker

__all__ = [
    "Backbone",
    "Callback",
    "CheckpointFormat",
    "Dataset",
    "DatasetWriter",
    "Evaluator",
    "MixingTransform",
    "Neck",
    "Optimizer",
    "ProposalGenerator",
    "RoiHead",
    "RoiSamples",
    "RoiTrunk",
    "Sampler",
    "Schedule",
    "SemanticHead",
    "Tracker",
    "Transform",
]
