"""The wire formats of model providers, each read and written by one module."""
