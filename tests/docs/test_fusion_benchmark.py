"""The benchmark of the demo's fusion: which frames it counts as without a face, and what it leaves out."""

import numpy as np
import small_run
from small_run import KNOWN, TIMES, Run

from benchmarks.demo_fusion import ALL, WITH, WITHOUT, videos

FACE = TIMES >= 2  # a face from the second second on


def test_labelled_frames_are_parted_by_the_rows_of_the_mesh(tmp_path, monkeypatch):
    write = small_run.write

    def with_gap(path, header, **rows):
        write(path, header, **rows | ({"valid": FACE} if path.parent.parent.name == "mesh" else {}))

    monkeypatch.setattr(small_run, "write", with_gap)
    run = Run(tmp_path)
    found = videos(run.plan, "face", ("validation",))
    for kind, here in ((WITHOUT, KNOWN & ~FACE), (WITH, KNOWN & FACE), (ALL, KNOWN)):
        assert set(found[kind]) == {"v1", "v2"}
        for id, (truth, prediction, counted) in found[kind].items():
            np.testing.assert_array_equal(counted, here)
            np.testing.assert_allclose(truth[KNOWN], run.truth(id)[KNOWN], atol=1e-4)
            np.testing.assert_allclose(prediction, run.prediction("face", id), atol=1e-6)
    assert set(videos(run.plan, "face", ("train", "validation"))[ALL]) == {"a one", "v1", "v2"}
