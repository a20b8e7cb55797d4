"""What Lightning trains: the module, the data module, schedules, ZeRO, the embedded worlds."""
