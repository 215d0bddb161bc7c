"""Worker that turns landmarks of faces into geometry features."""

from affpipe.core.stage import Context
from affpipe.store.item_streams import Job, Worker, blank, blocks

FRAMES = 512  # frames of a stream between two writes


def mesh(context: Context) -> Worker:
    """Make the worker of face geometry per frame: values (T, D) float32, valid where the mesh was found."""
    from affpipe.encoders.mesh.network import MeshEncoder

    encoder = MeshEncoder()

    def work(job: Job) -> None:
        with job.open("landmarks") as points, job.writing(job.header(points.fps)) as out:
            for block in blocks(len(points), FRAMES):
                valid = points.valid[block]
                found = encoder.extract(points.rows("values", block.start, block.stop)[valid])
                values = blank(len(valid), found.shape[1:])
                values[valid] = found
                out.append(values=values, start_s=points.start_s[block], end_s=points.end_s[block], valid=valid)

    return work
