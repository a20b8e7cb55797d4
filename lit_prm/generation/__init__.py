"""Makes rollouts from problems: samples responses from a server or a local model, grades and labels them."""
