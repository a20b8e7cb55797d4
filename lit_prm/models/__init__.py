"""Networks and what is read from them: language models, log-probabilities, reward models, references."""

from lit_prm.storage.moved import names_below

__getattr__ = names_below(__name__)
