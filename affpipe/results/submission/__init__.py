"""The files of the challenge: the template of the organisers, the answer to it, and whether it is fit to send."""
