"""Sound: decoded tracks on the clock of the video, and voices in them."""
