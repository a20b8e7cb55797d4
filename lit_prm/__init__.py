"""Process reward models from outcome labels: train, judge and use them."""
