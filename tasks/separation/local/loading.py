"""From a model's files to networks that are ready on their device, each once it is needed."""

from __future__ import annotations

import threading

from tasks.contracts import LocalOptions, PrecisionClass
from tasks.separation.local.network import Network
from tasks.separation.models.network_loader import load_network
from tasks.separation.models.spec import ModelSpec
from tasks.separation.torch_faults import torch_told


class LoadedModel:
    """A model's networks on a device, loaded when first asked for and kept.

    So one stem of a bag that has a network for each costs the memory of one.

    Args:
        spec: The model.
        device: Torch's name.
        precision: Of the networks' cores.
        options: Which libraries may be used.
    """

    def __init__(
        self, spec: ModelSpec, device: str, precision: PrecisionClass, options: LocalOptions
    ) -> None:
        ones = [[1.0] * len(spec.sources)] * len(spec.weights)
        self.weights = [list(row) for row in spec.bag_weights] if spec.bag_weights else ones
        self._spec, self._device = spec, device
        self._precision: PrecisionClass = precision
        self._options = options
        self._networks: dict[int, Network] = {}
        self._lock = threading.Lock()
        self._compiled = False

    @property
    def backends(self) -> list[str]:
        """The libraries that run what was loaded so far."""
        return sorted({network.backend for network in self._networks.values()})

    def network(self, index: int) -> Network:
        """One network, ready.

        Raises:
            WeightsRefused, SettingsError: As `load_network`.
            OutOfMemory: The device has no room for it.
        """
        with self._lock:
            if index not in self._networks:
                self._networks[index] = self._load(index)
            return self._networks[index]

    def compile(self) -> None:
        """Have torch compile all networks, also those that are loaded later."""
        with self._lock:
            self._compiled = True
            for network in self._networks.values():
                network.compile()

    def _load(self, index: int) -> Network:
        import torch

        network = load_network(self._spec, index)
        with torch.inference_mode(), torch_told(self._device):
            ready = Network(
                network, self._spec.weights[index], self._device, self._precision, self._options
            )
        if self._compiled:
            ready.compile()
        return ready
