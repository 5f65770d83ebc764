"""Manifests -> policy.

The commands are `warmup` (supervised), `grpo` (token weights and rewards) and `plot` (curves of
runs). docs/house.md lists all modules.

Nothing is told to anybody: TRL's telemetry is off unless HF_HUB_DISABLE_TELEMETRY says 0.
"""

import os

# Before huggingface_hub is imported, which reads it once.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
