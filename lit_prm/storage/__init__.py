"""Files and records of runs: atomic writes, run folders, the MLflow logger and its queue."""
