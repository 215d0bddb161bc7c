"""Video and audio files: probe, decode, and the audio track on the video's clock."""
