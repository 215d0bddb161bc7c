"""Table of the stages of media, faces and labels, listed by hand in the order of work; encoders and models have tables of their own."""

from affpipe.core.stage import Stage
from affpipe.data.stages import LABELS
from affpipe.faces.stages import FACES, LANDMARKS, MOUTH, SPEECH, SUBJECT
from affpipe.media.stages import AUDIO, FRAMES, VAD

STAGES: dict[str, Stage] = {stage.name: stage for stage in (FRAMES, LABELS, AUDIO, VAD, FACES, SUBJECT, LANDMARKS, MOUTH, SPEECH)}
