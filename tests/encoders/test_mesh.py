"""Mesh features: what they must not see (place, size, pose) and what they must (expression)."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from affpipe.core.errors import InputError
from affpipe.encoders.mesh.network import FEATURES, POINTS, TEMPLATE, MeshEncoder, aligned

encoder = MeshEncoder()


@pytest.fixture
def faces() -> np.ndarray:
    """Twelve heads of about 60 pixels: the template with some noise, other points anywhere on it."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (12, 478, 3))
    points[:, list(TEMPLATE)] = np.array(list(TEMPLATE.values())) + rng.normal(0, 0.02, (12, len(TEMPLATE), 3))
    return (60 * points).astype(np.float32)


def column(values: np.ndarray, name: str) -> np.ndarray:
    return values[:, FEATURES.index(name)]


def test_names_and_width(faces):
    out = encoder.extract(faces)
    assert out.shape == (12, encoder.dim) == (12, len(FEATURES))
    assert out.dtype == np.float32
    assert len(set(FEATURES)) == len(FEATURES) == 144
    assert encoder.extract(faces[:0]).shape == (0, 144)


@pytest.mark.parametrize("seed", range(5))
def test_rigid_motion_and_size_change_nothing(faces, seed):
    rng = np.random.default_rng(seed)
    turn = Rotation.random(len(faces), rng).as_matrix()
    scale, shift = rng.uniform(0.2, 5, (len(faces), 1, 1)), rng.uniform(-2000, 2000, (len(faces), 1, 3))
    moved = (faces @ turn * scale + shift).astype(np.float32)
    np.testing.assert_allclose(encoder.extract(moved), encoder.extract(faces), atol=1e-4)


def test_mirroring_is_no_rigid_motion(faces):
    mirrored = faces * np.array([-1, 1, 1], np.float32)
    assert np.abs(encoder.extract(mirrored) - encoder.extract(faces)).max() > 0.1


def test_rows_are_independent(faces):
    whole = encoder.extract(faces)
    for i in range(len(faces)):
        np.testing.assert_array_equal(encoder.extract(faces[i : i + 1])[0], whole[i])


def test_alignment_is_the_best_rotation(faces):
    """scipy's solution of the same problem, scale fixed by the centroid sizes."""
    model = np.array(list(TEMPLATE.values()))
    centre = model - model.mean(axis=0)
    for face, got in zip(faces, aligned(faces), strict=True):
        rigid = face[list(TEMPLATE)].astype(np.float64)
        rigid = rigid - rigid.mean(axis=0)
        rigid *= np.linalg.norm(centre) / np.linalg.norm(rigid)
        want = Rotation.align_vectors(centre, rigid)[0].apply(rigid) + model.mean(axis=0)
        np.testing.assert_allclose(got[list(TEMPLATE)], want, atol=1e-7)


def test_the_template_lies_on_itself():
    face = np.zeros((1, 478, 3))
    face[0, list(TEMPLATE)] = list(TEMPLATE.values())
    np.testing.assert_allclose(aligned(face)[0, list(TEMPLATE)], list(TEMPLATE.values()), atol=1e-12)


def test_expressions_move_their_features():
    face = np.zeros((1, 478, 3))
    face[0, list(TEMPLATE)] = list(TEMPLATE.values())
    for point, at in {
        61: (-0.27, 0.8, -0.2),
        291: (0.27, 0.8, -0.2),
        13: (0, 0.8, -0.3),
        14: (0, 0.8, -0.3),
        107: (-0.15, -0.2, -0.2),
    }.items():
        face[0, point] = at
    rest = encoder.extract(face)

    smile = face.copy()
    smile[0, [61, 291]] += [[-0.1, -0.1, 0.05], [0.1, -0.1, 0.05]]  # corners out, up and back
    change = encoder.extract(smile) - rest
    assert column(change, "mouth_width")[0] == pytest.approx(0.2, abs=1e-6)
    assert column(change, "corner_lift_right")[0] == pytest.approx(0.1, abs=1e-6)
    assert column(change, "corner_back_left")[0] == pytest.approx(0.05, abs=1e-6)
    assert column(change, "lip_outer_61_y")[0] == pytest.approx(-0.1, abs=1e-6)

    surprise = face.copy()
    surprise[0, 14, 1] += 0.3
    surprise[0, 107, 1] -= 0.1
    change = encoder.extract(surprise) - rest
    assert column(change, "mouth_open")[0] == pytest.approx(0.3, abs=1e-6)
    assert column(change, "brow_inner_right")[0] == pytest.approx(0.1, abs=1e-6)
    assert column(change, "mouth_width")[0] == pytest.approx(0, abs=1e-6)


def test_features_do_not_repeat_rigid_points():
    assert not {p for points in POINTS.values() for p in points} & set(TEMPLATE)


def test_bad_rows_are_refused(faces):
    faces[3, 100, 2] = np.nan
    with pytest.raises(InputError, match="in row 3; pass found rows only"):
        encoder.extract(faces)
    with pytest.raises(InputError, match=r"want landmarks \(N, 478, 3\), got \(12, 468, 3\)"):
        encoder.extract(faces[:, :468])
    with pytest.raises(InputError, match="all points of row 1 coincide"):
        encoder.extract(np.stack([faces[0], np.ones((478, 3), np.float32)]))
