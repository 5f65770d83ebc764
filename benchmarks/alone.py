"""Measure in a separate process, free of the memory and caches of others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from nontrivial.manifests.errors import WorkFailed


def alone(
    module: str,
    options: Any,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    **changed: Any,
) -> dict[str, Any]:
    """Run `python -m module` with these options, some `changed`; return its last line of JSON.

    Raises `WorkFailed` with the last line of its errors if it fails, and `TimeoutError` after
    `timeout` seconds.
    """
    given = {
        name: value for name, value in (asdict(options) | changed).items() if value is not None
    }
    words = [f"--{name}={value}" for name, value in given.items()]
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, *words],
            env=os.environ | (env or {}),
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"{module}: more than {timeout} s") from error
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise WorkFailed(f"{module} {' '.join(words)}: {last[0]}")
    return json.loads(done.stdout.splitlines()[-1])
