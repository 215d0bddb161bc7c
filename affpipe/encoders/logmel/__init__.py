"""Log-mel spectrograms of windows of sound."""
