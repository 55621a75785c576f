"""Training runs and the folders they leave behind."""
