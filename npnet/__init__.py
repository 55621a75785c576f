"""npnet: a neural-network engine to read, to train and to measure."""
