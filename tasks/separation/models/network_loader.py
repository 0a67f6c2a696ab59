"""From a model's files to a network on a device. The only reader of tensors."""

from __future__ import annotations

from typing import Any

from tasks.errors import OutOfMemory, SettingsError, WeightsRefused
from tasks.separation.models.demucs_files import read_network
from tasks.separation.models.spec import ModelSpec


def load_network(spec: ModelSpec, index: int = 0) -> Any:
    """Load one network of a model: float32, on the CPU, in evaluation mode.

    Raises:
        WeightsRefused: Damaged, or tensors that don't fit the model that they describe.
        SettingsError: A quantized model without the package that unpacks it.
        OutOfMemory: No memory for it.
    """
    from demucs.apply import BagOfModels
    from demucs.hf import load_safetensors_model

    path = spec.weights[index]
    read_network(path)  # again, because the file may have changed since the spec was made
    try:
        network = load_safetensors_model(path)
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
    # demucs' own class for a bag knows how its segment overrides a network's.
    bag = BagOfModels([network], None, spec.bag_segment_s).eval()
    for module in bag.modules():
        # demucs moves the positional embedding at random even when it isn't training.
        if hasattr(module, "sin_random_shift"):
            setattr(module, "sin_random_shift", 0)  # noqa: B010 - torch types attributes as modules
    return bag.models[0]
