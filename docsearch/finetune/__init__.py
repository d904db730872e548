"""Fine-tuning of jina-embeddings-v4 on one's own pages and questions: only an adapter is trained, the model stays."""

from docsearch.finetune.data import TrainingData, read_data
from docsearch.finetune.train import Progress, Report, Settings, Trainer

__all__ = ["Progress", "Report", "Settings", "Trainer", "TrainingData", "read_data"]
