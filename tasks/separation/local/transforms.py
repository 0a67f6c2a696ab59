"""The Fourier transforms around HTDemucs, with their constants made once.

The same numbers as `demucs.htdemucs.HTDemucs._spec` and `_ispec`, without their check of every
sample, which costs a device synchronisation a segment.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - as everybody writes it


class Transforms(nn.Module):
    """Short-time spectra of segments of one length, and back.

    Args:
        n_fft: Window; the hop is a quarter of it.
        frames: Samples of a segment.
    """

    window: torch.Tensor

    def __init__(self, n_fft: int, frames: int) -> None:
        super().__init__()
        self._n_fft = n_fft
        self._hop = n_fft // 4
        self._frames = frames
        self.steps = -(-frames // self._hop)
        # demucs pads by so much that a segment has exactly frames / hop spectra.
        self._pad = self._hop // 2 * 3
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def forward(self, waves: torch.Tensor) -> torch.Tensor:
        """Complex spectra as channels.

        Args:
            waves: (segments, channels, frames), float32.

        Returns:
            (segments, 2 channels, n_fft / 2, steps): real and imaginary part of each channel.
        """
        segments, channels, frames = waves.shape
        right = self._pad + self.steps * self._hop - frames
        padded = F.pad(waves, (self._pad, right), mode="reflect")
        spectra = torch.stft(
            padded.reshape(segments * channels, -1),
            self._n_fft,
            self._hop,
            window=self.window,
            normalized=True,
            center=True,
            return_complex=True,
            pad_mode="reflect",
        )[:, :-1, 2 : 2 + self.steps]
        parts = torch.view_as_real(spectra).permute(0, 3, 1, 2)
        return parts.reshape(segments, 2 * channels, self._n_fft // 2, self.steps)

    def inverse(self, spectra: torch.Tensor) -> torch.Tensor:
        """Waves of spectra.

        Args:
            spectra: (segments, 2 signals, n_fft / 2, steps), float32, as `forward` gives them.

        Returns:
            (segments, signals, frames).
        """
        segments, parts, bins, steps = spectra.shape
        pairs = spectra.reshape(segments * parts // 2, 2, bins, steps)
        complex_ = torch.view_as_complex(pairs.permute(0, 2, 3, 1).contiguous())
        waves = torch.istft(
            F.pad(complex_, (2, 2, 0, 1)),
            self._n_fft,
            self._hop,
            window=self.window,
            win_length=self._n_fft,
            normalized=True,
            length=self._hop * self.steps + 2 * self._pad,
            center=True,
        )
        waves = waves[:, self._pad : self._pad + self._frames]
        return waves.reshape(segments, parts // 2, self._frames)
