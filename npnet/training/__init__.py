"""From data to a trained network: batches, the step, the loops."""
