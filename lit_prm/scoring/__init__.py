"""Token, step and response rewards for any rollouts, from any checkpoint or released model."""
