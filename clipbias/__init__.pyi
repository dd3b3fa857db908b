# The public names, in this one place: type checkers read this file, and __init__.py imports by it on first use.
from clipbias.api.ask import card as card
from clipbias.api.ask import compare as compare
from clipbias.api.ask import finetune as finetune
from clipbias.api.ask import list_datasets as list_datasets
from clipbias.api.ask import list_models as list_models
from clipbias.api.ask import list_probes as list_probes
from clipbias.api.ask import probe as probe
from clipbias.api.ask import report as report
from clipbias.api.results import Results as Results
from clipbias.api.results import load_results as load_results
from clipbias.data.dataset import RetrievalDataset as RetrievalDataset
from clipbias.data.loading import load_dataset as load_dataset
from clipbias.data.loading import register_dataset as register_dataset
from clipbias.models.catalogue import register_model as register_model
from clipbias.models.encoder import Encoder as Encoder
from clipbias.models.loading import load_model as load_model

__version__: str
