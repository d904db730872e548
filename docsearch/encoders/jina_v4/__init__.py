"""jina-embeddings-v4: Qwen2.5-VL-3B with three task adapters, loaded from its published files without remote code."""

from docsearch.encoders.jina_v4.encoder import JinaV4Encoder
from docsearch.encoders.jina_v4.jina import Embedding, JinaV4
from docsearch.encoders.jina_v4.model import TASKS, Task

__all__ = ["TASKS", "Embedding", "JinaV4", "JinaV4Encoder", "Task"]
