"""Registers of several numbers: loads and stores, arithmetic, functions."""
