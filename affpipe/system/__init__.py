"""The machine: files, devices, threads, third-party packages, checkpoints. Nothing here knows about affect."""
