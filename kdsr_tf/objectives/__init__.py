"""Objectives: named terms of a training loss."""
