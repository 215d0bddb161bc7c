"""WavLM: hidden states of windows of sound."""
