"""Manifests -> policy.

The commands are `warmup` (supervised), `grpo` (token weights and rewards) and `plot` (curves of
runs). docs/house.md lists all modules.
"""
