"""From a model's files to a network on a device. The only reader of tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.errors import OutOfMemory, SettingsError, WeightsRefused
from tasks.separation.models.spec import ModelSpec, read_network

if TYPE_CHECKING:
    from demucs.apply import BagOfModels


def load_model(spec: ModelSpec, device: str = "cpu") -> BagOfModels:
    """Load every sub-model and move the bag to `device`, where it stays.

    Raises:
        WeightsRefused: Damaged, or tensors that don't fit the model that they describe.
        SettingsError: A quantized model without the package that unpacks it.
        OutOfMemory: The device has no room for it.
    """
    import torch
    from demucs.apply import BagOfModels
    from demucs.hf import load_safetensors_model

    networks = []
    for path in spec.weights:
        read_network(path)  # again, because the file may have changed since the spec was made
        try:
            networks.append(load_safetensors_model(path))
        except SystemExit as error:  # demucs' way to say that diffq isn't installed
            raise SettingsError(
                f"{spec.name} is quantized and needs the package diffq.",
                remedy="`pip install diffq`, or choose the model without _q.",
            ) from error
        except MemoryError as error:
            raise OutOfMemory(f"no memory to load {spec.name}.", stage="separate") from error
        except Exception as error:
            raise WeightsRefused(
                f"{path.name} can't be loaded: {str(error).splitlines()[0][:200]}",
                remedy="Delete it and fetch or copy it again.",
            ) from error
    rows = [list(row) for row in spec.bag_weights] if spec.bag_weights else None
    bag = BagOfModels(networks, rows, spec.bag_segment_s)
    for module in bag.modules():
        # demucs moves the positional embedding at random even when it isn't training.
        if hasattr(module, "sin_random_shift"):
            setattr(module, "sin_random_shift", 0)  # noqa: B010 - torch types attributes as modules
    try:
        return bag.to(device).eval()
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(f"{device} has no room for {spec.name}.", stage="separate") from error
