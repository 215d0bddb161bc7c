"""Stages: open what a stage reads, run the array code on it, write its stream."""
