"""affpipe: talking-face videos in, per-frame affect predictions out, in stages that can be rerun one at a time."""

__version__ = "0.1.0"
