"""Best-of-N, votes and their baselines on any candidate file: `python -m lit_prm bon`."""
