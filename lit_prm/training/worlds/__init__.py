"""Sources of training data that need no download by hand: tinymath and smol."""
