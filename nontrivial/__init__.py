"""Non-trivial training data for vision-language models, and a trainer that weights tokens."""

from __future__ import annotations

from nontrivial.models import torchvision_cpu

torchvision_cpu.install()
