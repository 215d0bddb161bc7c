"""Video and audio files: probing, decoding, and the audio track on the video's clock."""
