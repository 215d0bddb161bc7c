"""The files of the challenge: the organisers' template, the answer to it, and the check of the answer."""
