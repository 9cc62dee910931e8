"""Running a little of everything once, so that the framework's own memory is there before a model.

Measured on a two-core machine with torch 2.13: packing buffers of the matrix library take about
10 MB with the first large product, kernels' code pages as much again. They belong to the process,
whatever model comes, and would be counted as its first model's otherwise.
"""
# ruff: noqa: ANN401 - torch is imported when it is needed, its objects have no types here

from __future__ import annotations

from typing import Any


def warm_up_torch(torch: Any) -> None:
    """Run the kernels that networks are made of, at sizes that start pools and buffers: 0.1 s."""
    with torch.inference_mode():
        _warm_up_products(torch)
        _warm_up_attention(torch)
        _warm_up_elementwise(torch)
        _warm_up_convolutions(torch)


def _warm_up_products(torch: Any) -> None:
    # Rows beyond 512 did not let the packing buffers grow any further.
    functional = torch.nn.functional
    weights, bias = torch.ones(3072, 768), torch.ones(3072)
    functional.linear(torch.ones(512, 768), weights, bias)
    few = torch.ones(32, 768)
    functional.linear(few, weights)
    torch.addmm(bias, few, weights.t())
    table, ids = torch.ones(64, 64), torch.zeros(1, 8, dtype=torch.int64)
    functional.embedding(ids, table)


def _warm_up_attention(torch: Any) -> None:
    attend = torch.nn.functional.scaled_dot_product_attention
    heads = torch.ones(1, 12, 128, 64)
    mask = torch.ones(1, 1, 128, 128, dtype=torch.bool)
    attend(heads, heads, heads)
    attend(heads, heads, heads, is_causal=True)
    attend(heads, heads, heads, attn_mask=mask)
    attend(heads, heads, heads, attn_mask=mask.float())
    torch.softmax(heads @ heads.transpose(-1, -2), dim=-1)
    torch.cat([heads, heads], dim=-1)


def _warm_up_elementwise(torch: Any) -> None:
    functional = torch.nn.functional
    hidden = torch.ones(1, 128, 768)
    functional.layer_norm(hidden, (768,))
    (hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + 1e-6)).tanh()
    for activation in (functional.gelu, functional.silu, functional.relu, torch.sigmoid):
        activation(hidden)
    functional.gelu(hidden, approximate="tanh")
    positions = torch.arange(128)
    torch.add(positions.float().cos(), positions.float().sin())
    torch.where(
        positions < 3, positions, torch.min(positions, (positions.float() + 1).log().long())
    )
    torch.randint(0, 5, (4,)).bool().all().item()
    torch.randn(4)


def _warm_up_convolutions(torch: Any) -> None:
    functional = torch.nn.functional
    functional.conv2d(torch.ones(1, 3, 64, 64), torch.ones(64, 3, 16, 16), stride=16)
    functional.conv1d(torch.ones(1, 80, 128), torch.ones(64, 80, 3), padding=1)
