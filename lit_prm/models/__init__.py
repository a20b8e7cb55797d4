"""Networks and what is read from them: language models, log-probabilities, reward models, references."""
