"""Networks for the tests of `model.backbone: module:function`."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Small(nn.Module):
    """Two stages, a shared convolution, a constant, and a normalisation of its own."""

    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, 2, 1)
        self.norm = nn.BatchNorm2d(8)
        self.shared = nn.Conv2d(8, 8, 3, 1, 1)
        self.second = nn.Conv2d(8, 12, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x))) * torch.linspace(1.0, 2.0, 8).view(8, 1, 1)
        x = self.shared(x)
        return self.second(self.shared(torch.relu(x)))


class Additions(nn.Module):
    """Additions of a parameter, of one value a channel and of a map of another size."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, 2, 1)
        self.squeeze = nn.Conv2d(8, 8, 1)
        self.second = nn.Conv2d(8, 12, 3, 2, 1)
        self.last = nn.Conv2d(12, 12, 3, 1, 1)
        self.gate = nn.Conv2d(12, 12, 1)
        self.bias = nn.Parameter(torch.linspace(-1.0, 1.0, 12).view(1, 12, 1, 1))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = self.relu(self.squeeze(x.mean((2, 3), keepdim=True)) + x)
        x = self.relu(self.second(x) + self.bias)
        x = self.relu(self.last(x) + self.gate(x.mean((2, 3), keepdim=True)))
        return x + self.bias


class OnlyFloat32(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.float())


class ByValue(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) if x.mean() > 0 else x


class OwnMean(Small):
    mean = (0.5, 0.4)


def small(height: int, width: int) -> nn.Module:
    return Small()


def additions(height: int, width: int) -> nn.Module:
    return Additions()


def by_value(height: int, width: int) -> nn.Module:
    return ByValue()


def only_float32(height: int, width: int) -> nn.Module:
    return OnlyFloat32()


def wrong_deviation(height: int, width: int) -> nn.Module:
    network = Small()
    network.std = (0.2, 0.0, 0.4)
    return network


def wrong_mean(height: int, width: int) -> nn.Module:
    return OwnMean()


def nothing(height: int, width: int) -> None:
    return None


def fails(height: int, width: int) -> nn.Module:
    raise OSError("no such weights")


def other_arguments(size: int) -> nn.Module:
    raise AssertionError("must not be called")
