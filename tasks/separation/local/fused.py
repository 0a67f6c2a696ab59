"""HTDemucs between its Fourier transforms, arranged for inference: the same function, less work.

Attention is fused, constants are made once, layer scales are folded into the weights before them,
and everything runs channels-last, so that the residual branches need no copies. Agrees with
`demucs.htdemucs.HTDemucs.forward` to rounding (above 100 dB in float32). No operation looks at
values, so that it can be traced, compiled and converted, and never waits for a device.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

import torch
from demucs.hdemucs import HDecLayer, HEncLayer
from demucs.htdemucs import HTDemucs
from demucs.transformer import (
    CrossTransformerEncoderLayer,
    LayerScale,
    MyTransformerEncoderLayer,
    create_2d_sin_embedding,
    create_sin_embedding,
)
from torch import nn
from torch.nn import functional as F  # noqa: N812 - as everybody writes it

_LAST = torch.channels_last
_BRANCH = [nn.Conv1d, nn.GroupNorm, nn.GELU, nn.Conv1d, nn.GroupNorm, nn.GLU, LayerScale]


def is_plain(network: Any) -> bool:
    """Whether `FusedHTDemucs` knows every part of this network; all released HTDemucs are plain."""
    if type(network) is not HTDemucs or not (network.cac and network.use_train_segment):
        return False
    transformer: Any = network.crosstransformer
    if transformer is None or transformer.emb != "sin" or transformer.sin_random_shift:
        return False
    spectral = chain(network.encoder, network.decoder)
    temporal = chain(network.tencoder, network.tdecoder)
    blocks = chain(transformer.layers, transformer.layers_t)
    return (
        len(network.tencoder) == len(network.encoder)
        and all(_is_plain_layer(layer, spectral=True) for layer in spectral)
        and all(_is_plain_layer(layer, spectral=False) for layer in temporal)
        and all(_is_plain_block(block) for block in blocks)
    )


def _is_plain_layer(layer: Any, *, spectral: bool) -> bool:
    if not isinstance(layer, HEncLayer | HDecLayer) or bool(layer.freq) is not spectral:
        return False
    if layer.empty or layer.rewrite is None:
        return False
    branches: Any = layer.dconv.layers if layer.dconv else ()
    return all([type(part) for part in branch] == _BRANCH for branch in branches)


def _is_plain_block(block: Any) -> bool:
    return (
        isinstance(block, MyTransformerEncoderLayer | CrossTransformerEncoderLayer)
        and bool(block.norm_first)
        and not block.sparse
        and block.activation is F.gelu
    )


class FusedHTDemucs(nn.Module):
    """An HTDemucs without its transforms, for segments of its training length.

    Shares no tensor with the network that it is made of.

    Args:
        network: One that `is_plain` holds for, with float32 weights on the CPU.
        steps: Spectra of a segment.

    Attributes:
        shape: Bins, steps, channels and frames of a segment.
    """

    frequencies: torch.Tensor
    positions: torch.Tensor
    positions_t: torch.Tensor

    def __init__(self, network: Any, steps: int) -> None:
        super().__init__()
        transformer = network.crosstransformer
        frames = int(network.segment * network.samplerate)
        self.shape = (network.nfft // 2, steps, network.audio_channels, frames)
        self.encoder = nn.ModuleList(map(_Encoder, network.encoder))
        self.encoder_t = nn.ModuleList(map(_Encoder, network.tencoder))
        self.decoder = nn.ModuleList(map(_Decoder, network.decoder))
        self.decoder_t = nn.ModuleList(map(_Decoder, network.tdecoder))
        self.up, self.up_t, self.down, self.down_t = (
            _widened(getattr(network, f"channel_{name}")) if network.bottom_channels else None
            for name in ("upsampler", "upsampler_t", "downsampler", "downsampler_t")
        )
        self.norm, self.norm_t = transformer.norm_in, transformer.norm_in_t
        self.layers = nn.ModuleList(map(_Block, transformer.layers))
        self.layers_t = nn.ModuleList(map(_Block, transformer.layers_t))
        self._make_constants(network, steps)

    def _make_constants(self, network: Any, steps: int) -> None:
        transformer, frames = network.crosstransformer, int(network.segment * network.samplerate)
        rows = network.nfft // 2
        frequencies = torch.zeros(1)
        for index, layer in enumerate(network.encoder):
            rows = -(-rows // layer.stride)
            if index == 0 and network.freq_emb is not None:
                embedding = network.freq_emb(torch.arange(rows)).t()[None, :, :, None]
                frequencies = (embedding * network.freq_emb_scale).contiguous(memory_format=_LAST)
        for layer in network.tencoder:
            frames = -(-frames // layer.stride)
        width = transformer.layers[0].linear1.in_features
        period, weight = transformer.max_period, transformer.weight_pos_embed
        grid = create_2d_sin_embedding(width, rows, steps, "cpu", period)  # type: ignore[no-untyped-call]
        line = create_sin_embedding(frames, width, max_period=period)
        constants = {
            "frequencies": frequencies,
            "positions": weight * grid.permute(0, 3, 2, 1).reshape(1, steps * rows, width),
            "positions_t": weight * line.permute(1, 0, 2),
        }
        for name, value in constants.items():
            self.register_buffer(name, value.detach().clone(), persistent=False)

    def forward(
        self, spectra: torch.Tensor, waves: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The network's two estimates of each stem; their sum, as waves, is the stem.

        Args:
            spectra: (segments, 2 channels, bins, steps), from `Transforms`.
            waves: (segments, channels, frames).

        Returns:
            Spectra (segments, 2 channels * stems, bins, steps) and waves (segments,
            channels * stems, frames), both float32.
        """
        mean, deviation = _statistics(spectra)
        mean_t, deviation_t = _statistics(waves)
        x = ((spectra - mean) / (1e-5 + deviation)).contiguous(memory_format=_LAST)
        xt = ((waves - mean_t) / (1e-5 + deviation_t))[:, :, None].contiguous(memory_format=_LAST)
        skips, skips_t, lengths = [], [], []
        for index, (layer, layer_t) in enumerate(zip(self.encoder, self.encoder_t, strict=True)):
            lengths.append(xt.shape[-1])
            xt = layer_t(xt)
            x = layer(x)
            if index == 0:
                x = x + self.frequencies
            skips.append(x)
            skips_t.append(xt)
        x, xt = self._transformed(x, xt)
        for layer, layer_t in zip(self.decoder, self.decoder_t, strict=True):
            x = layer(x, skips.pop(), 0)
            xt = layer_t(xt, skips_t.pop(), lengths.pop())
        return (
            x.float().contiguous() * deviation + mean,
            xt.float()[:, :, 0].contiguous() * deviation_t + mean_t,
        )

    def _transformed(self, x: torch.Tensor, xt: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.up is not None and self.up_t is not None:
            x, xt = self.up(x), self.up_t(xt)
        segments, width, rows, steps = x.shape
        x = self.norm(x.permute(0, 3, 2, 1).reshape(segments, steps * rows, width))
        xt = self.norm_t(xt[:, :, 0].permute(0, 2, 1))
        x, xt = x + self.positions, xt + self.positions_t
        for layer, layer_t in zip(self.layers, self.layers_t, strict=True):
            x, xt = layer(x, xt), layer_t(xt, x)
        x = x.view(segments, steps, rows, width).permute(0, 3, 2, 1)
        x = x.contiguous(memory_format=_LAST)
        xt = xt.permute(0, 2, 1)[:, :, None].contiguous(memory_format=_LAST)
        if self.down is not None and self.down_t is not None:
            x, xt = self.down(x), self.down_t(xt)
        return x, xt


def _statistics(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation of each segment."""
    axes = tuple(range(1, x.dim()))
    return x.mean(dim=axes, keepdim=True), x.std(dim=axes, keepdim=True)


def _widened(layer: Any) -> Any:
    """A convolution as a two-dimensional one with channels-last weights; temporal ones gain rows
    of one."""
    weight = layer.weight.detach()
    made: Any
    if isinstance(layer, nn.Conv1d | nn.ConvTranspose1d):
        kind: Any = nn.Conv2d if isinstance(layer, nn.Conv1d) else nn.ConvTranspose2d
        made = kind(
            layer.in_channels,
            layer.out_channels,
            (1, *layer.kernel_size),
            (1, *layer.stride),
            (0, *layer.padding),
            dilation=(1, *layer.dilation),
        )
        weight = weight[:, :, None]
    else:
        made = type(layer)(
            layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding
        )
    made.weight = nn.Parameter(weight.clone(memory_format=_LAST), requires_grad=False)
    made.bias = nn.Parameter(layer.bias.detach().clone(), requires_grad=False)
    return made


class _Residual(nn.Module):
    """demucs' `DConv` on each row of (segments, channels, rows, steps)."""

    def __init__(self, dconv: Any) -> None:
        super().__init__()
        self.branches = nn.ModuleList(map(_Branch, dconv.layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        segments, width, rows, steps = x.shape
        # Channels-last, a row's steps and channels lie side by side: rows become segments by name.
        y = x.permute(0, 2, 3, 1).reshape(segments * rows, 1, steps, width).permute(0, 3, 1, 2)
        for branch in self.branches:
            y = y + branch(y)
        return y.permute(0, 2, 3, 1).reshape(segments, rows, steps, width).permute(0, 3, 1, 2)


class _Branch(nn.Module):
    def __init__(self, parts: Any) -> None:
        super().__init__()
        squeeze, norm, _, expand, gated_norm, _, scale = parts
        self.squeeze, self.norm, self.expand = _widened(squeeze), norm, _widened(expand)
        # The scale multiplies what the gate lets through: the norm's first half can carry it.
        factors = torch.cat([scale.scale, torch.ones_like(scale.scale)]).detach()
        self.gated_norm = nn.GroupNorm(1, len(factors), gated_norm.eps)
        self.gated_norm.weight = _scaled(gated_norm.weight, factors)
        self.gated_norm.bias = _scaled(gated_norm.bias, factors)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.gelu(self.norm(self.squeeze(x)))
        return F.glu(self.gated_norm(self.expand(y)), dim=1)


def _scaled(parameter: torch.Tensor, factors: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(parameter.detach() * factors, requires_grad=False)


class _Layer(nn.Module):
    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.norm1, self.norm2 = layer.norm1, layer.norm2
        self.rewrite = _widened(layer.rewrite)
        self.residual = _Residual(layer.dconv) if layer.dconv else nn.Identity()


class _Encoder(_Layer):
    def __init__(self, layer: Any) -> None:
        super().__init__(layer)
        self.conv = _widened(layer.conv)
        self._multiple = 1 if layer.freq else layer.stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.pad(x, (0, -x.shape[-1] % self._multiple))
        y = self.residual(F.gelu(self.norm1(self.conv(x))))
        return F.glu(self.norm2(self.rewrite(y)), dim=1)


class _Decoder(_Layer):
    def __init__(self, layer: Any) -> None:
        super().__init__(layer)
        self.conv = _widened(layer.conv_tr)
        self._spectral, self._pad, self._last = layer.freq, layer.pad, layer.last

    def forward(self, x: torch.Tensor, skip: torch.Tensor, length: int) -> torch.Tensor:
        """`length` counts the samples that a temporal layer gives."""
        y = self.residual(F.glu(self.norm1(self.rewrite(x + skip)), dim=1))
        z = self.norm2(self.conv(y))
        if not self._spectral:
            z = z[..., self._pad : self._pad + length]
        elif self._pad:
            z = z[..., self._pad : -self._pad, :]
        return z if self._last else F.gelu(z)


class _Block(nn.Module):
    """A transformer block, of one branch alone or of both."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        crossed = isinstance(block, CrossTransformerEncoderLayer)
        self.norm1 = block.norm1
        self.norm_other = block.norm2 if crossed else None
        self.norm2 = block.norm3 if crossed else block.norm2
        attention = block.cross_attn if crossed else block.self_attn
        self.attention = _Attention(attention, block.gamma_1)
        self.wide = block.linear1
        self.narrow = _after_scale(block.linear2, block.gamma_2)
        self.norm_out = block.norm_out if block.norm_out is not None else nn.Identity()

    def forward(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        query = self.norm1(x)
        key = query if self.norm_other is None else self.norm_other(other)
        x = x + self.attention(query, key)
        x = x + self.narrow(F.gelu(self.wide(self.norm2(x))))
        return self.norm_out(x)  # type: ignore[no-any-return]


class _Attention(nn.Module):
    def __init__(self, attention: Any, scale: Any) -> None:
        super().__init__()
        self._heads = attention.num_heads
        weight, bias = attention.in_proj_weight.detach(), attention.in_proj_bias.detach()
        self.query, self.key, self.value = (
            _linear(*pair) for pair in zip(weight.chunk(3), bias.chunk(3), strict=True)
        )
        self.out = _after_scale(attention.out_proj, scale)

    def forward(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        y = F.scaled_dot_product_attention(
            self._by_head(self.query(x)),
            self._by_head(self.key(other)),
            self._by_head(self.value(other)),
        )
        return self.out(y.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _by_head(self, x: torch.Tensor) -> torch.Tensor:
        segments, steps, width = x.shape
        return x.view(segments, steps, self._heads, width // self._heads).transpose(1, 2)


def _after_scale(layer: Any, scale: Any) -> nn.Linear:
    """A linear layer with the layer scale that follows it."""
    if isinstance(scale, nn.Identity):
        return _linear(layer.weight.detach(), layer.bias.detach())
    factors = scale.scale.detach()
    return _linear(layer.weight.detach() * factors[:, None], layer.bias.detach() * factors)


def _linear(weight: torch.Tensor, bias: torch.Tensor) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    made.weight = nn.Parameter(weight.clone(), requires_grad=False)
    made.bias = nn.Parameter(bias.clone(), requires_grad=False)
    return made
