"""Names on the Hugging Face Hub where the Hub can't be reached: the cache alone, at once.

The Hub's client tries each file five times with growing pauses, a minute in all, before it looks at
what is cached.
"""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

PATIENCE = 5.0  # seconds that the Hub is given to answer

logger = logging.getLogger(__name__)


def prepare(name_or_path: str) -> None:
    """Before a name on the Hub is loaded: if the Hub can't be reached, go offline.

    Nothing happens for a local file or folder. Offline holds for the rest of the process.
    """
    if Path(name_or_path).exists() or reachable():
        return
    import datasets
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True


@cache
def reachable() -> bool:
    """Ask the Hub, once, whether it answers; say so with a WARNING if it doesn't."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=PATIENCE).close()
    except HTTPError:
        return True  # an answer, if not a friendly one
    except OSError as error:
        logger.warning("the Hub can't be reached (%s): only what is cached is used", error)
        return False
    return True
