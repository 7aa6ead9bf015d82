"""Engines: libraries other than PyTorch that run a trunk. It is converted once, for a fit."""
