"""What an experiment would need at a scale, before anything is loaded: memory, disk, tokens, FLOPs, hours."""
