"""Reliability-aware audio-visual fusion."""
