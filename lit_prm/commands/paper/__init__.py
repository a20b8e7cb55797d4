"""The paper's tables and figures from recorded runs: `python -m lit_prm paper`."""
