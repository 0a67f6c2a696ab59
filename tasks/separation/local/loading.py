"""From a model's files to a bag of networks that are ready on their device."""

from __future__ import annotations

from tasks.contracts import LocalOptions, PrecisionClass
from tasks.separation.local.inference import Bag
from tasks.separation.local.network import Network
from tasks.separation.models.loading import load_model
from tasks.separation.models.spec import ModelSpec
from tasks.separation.torch_faults import torch_told


def load_bag(spec: ModelSpec, device: str, precision: PrecisionClass, options: LocalOptions) -> Bag:
    """Load a model's networks onto a device, where they stay.

    Raises:
        WeightsRefused, SettingsError: As `load_model`.
        OutOfMemory: The device has no room for them.
    """
    import torch

    bag = load_model(spec, "cpu")
    with torch.inference_mode(), torch_told(device):
        networks = [
            Network(network, weights, device, precision, options)
            for network, weights in zip(bag.models, spec.weights, strict=True)
        ]
    return Bag(networks, bag.weights)
