"""Annotation files with times: intervals of ELAN, Praat or a CSV, and values at a rate of their own, laid on frames."""
