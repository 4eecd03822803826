"""The embedded model: SmolLM2-135M-Instruct, dequantised Q4_1, made once and kept in a cache.

It shows the machinery without a key, a GPU or a model hub. It is too weak to show emergent
misalignment and is no real judge.
"""

from em_inspect.embedded.cache import NAMES, get_model_dir, verify

__all__ = ["NAMES", "get_model_dir", "verify"]
