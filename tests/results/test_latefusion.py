"""Late fusion: its figures are those of the definition, its weights are weights, and no video is in both fit and report."""

import time
from functools import reduce
from operator import add

import numpy as np
import pytest

from affpipe.core.errors import InputError
from affpipe.core.tasks import metrics
from affpipe.core.tasks.concordance import ccc
from affpipe.core.tasks.table import VA
from affpipe.results import late_fusion
from affpipe.results.late_evidence import Evidence, shares, total
from affpipe.results.late_fusion import Search, fuse, study

SEARCH = Search(largest=3, step=0.1, draws=100, seed=1)
KEYS = ("ccc_valence", "ccc_arousal", "ccc")


class Data:
    """Labelled streams, two of some videos, and predictions of K systems with noise of their own."""

    def __init__(self, videos: int = 6, noise: tuple[float, ...] = (0.2, 0.3, 0.5), *, absent: bool = False, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.names = tuple(f"system{k}" for k in range(len(noise)))
        self.truth, self.known, self.predictions, self.given, self.video = {}, {}, {}, {}, {}
        for v in range(videos):
            for stream in (f"v{v}", f"v{v}_right")[: 1 + v % 2]:
                t = int(rng.integers(40, 80))
                truth = np.clip(rng.normal(rng.uniform(-0.4, 0.4, 2), 0.3, (t, 2)), -1, 1)
                self.truth[stream], self.known[stream] = truth, rng.random(t) < 0.9
                self.predictions[stream] = np.stack([truth + rng.normal(0, s, (t, 2)) for s in noise])
                self.given[stream] = np.ones((len(noise), t), bool)
                if absent:
                    self.given[stream][-1] = v % 3 > 0
                    self.given[stream][0, :5] = False
                    self.given[stream][:, 7] = False
                    self.predictions[stream][~self.given[stream]] = np.nan
                self.video[stream] = f"v{v}"

    def moments(self, order: tuple[int, ...] | None = None) -> dict:
        take = list(order or range(len(self.names)))
        out: dict = {}
        for s in self.truth:
            own = Evidence.of(VA, self.truth[s], self.known[s], self.predictions[s][take], self.given[s][take])
            out.setdefault(self.video[s], []).append(own)
        return out

    def direct(self, weights_of) -> dict[str, float]:
        """Pooled CCC over drawn-out frames; weights_of: video -> (2, K)."""
        videos = {}
        for s in self.truth:
            values, valid = fuse(VA, weights_of(self.video[s]), self.predictions[s], self.given[s])
            videos[s] = (self.truth[s], values, self.known[s] & valid)
        return metrics.pooled(VA, videos)


@pytest.mark.parametrize("absent", [False, True])
def test_figures_are_those_of_the_frames(absent: bool) -> None:
    data = Data(absent=absent)
    found = study(VA, data.names, data.moments(), SEARCH)
    assert found.honest == pytest.approx(data.direct(found.weights_for), abs=1e-12)
    assert found.optimistic == pytest.approx(data.direct(lambda _: found.weights), abs=1e-12)
    one = {half.videos: np.eye(3)[[found.names.index(half.single)] * 2] for half in found.halves}
    single = data.direct(lambda video: next(w for videos, w in one.items() if video in videos))
    assert found.honest_single == pytest.approx(single, abs=1e-12)
    best = max(range(3), key=lambda k: data.direct(lambda _: np.eye(3)[[k, k]])["ccc"])
    assert found.single == found.names[best]
    assert found.optimistic_single["ccc"] == pytest.approx(data.direct(lambda _: np.eye(3)[[best, best]])["ccc"], abs=1e-12)


def test_ccc_of_candidates_equals_the_direct_one() -> None:
    data = Data(absent=True)
    whole = reduce(add, (s for streams in data.moments().values() for s in streams))
    drawn = np.random.default_rng(5).dirichlet(np.ones(3), 8)
    for channel, key in enumerate(KEYS[:2]):
        scores = total(VA, [(whole, drawn)], channel)
        for weights, score in zip(drawn, scores, strict=True):
            assert score == pytest.approx(data.direct(lambda _, w=weights: np.stack([w, w]))[key], abs=1e-12)


def test_constants_score_as_in_metrics() -> None:
    truth = np.full((9, 2), 0.3)
    same = Evidence.of(VA, truth, np.ones(9, bool), truth[None], np.ones((1, 9), bool))
    other = Evidence.of(VA, truth, np.ones(9, bool), truth[None] + 0.1, np.ones((1, 9), bool))
    assert total(VA, [(same, np.ones((1, 1)))], 0)[0] == ccc(truth[:, 0], truth[:, 0]) == 1
    assert total(VA, [(other, np.ones((1, 1)))], 0)[0] == pytest.approx(ccc(truth[:, 0], truth[:, 0] + 0.1), abs=1e-12)


def test_weights_sum_to_one_and_none_is_negative() -> None:
    blocks = np.concatenate(list(late_fusion.candidates(4, Search(largest=4, draws=50))))
    np.testing.assert_allclose(blocks.sum(axis=1), 1, atol=1e-12)
    assert (blocks >= 0).all()
    assert len(blocks) == 4 + 6 * 19 + 4 * 50 + 50
    assert ((blocks > 0).sum(axis=1) <= 4).all()
    found = study(VA, Data().names, Data().moments(), SEARCH)
    for weights in (found.weights, *(half.weights for half in found.halves)):
        np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-12)
        assert (weights >= 0).all()


def test_identical_systems_fuse_to_themselves() -> None:
    data = Data(noise=(0.3, 0.3))
    for s, p in data.predictions.items():
        data.predictions[s] = np.stack([p[0], p[0]])
    found = study(VA, data.names, data.moments(), SEARCH)
    np.testing.assert_array_equal(found.weights, np.eye(2)[[0, 0]])  # the smaller subset stands
    for weights in (found.weights, np.array([[0.3, 0.7], [0.6, 0.4]])):
        values, _ = fuse(VA, weights, data.predictions["v1"], data.given["v1"])
        np.testing.assert_allclose(values, data.predictions["v1"][0], atol=1e-15)
    assert found.honest == pytest.approx(found.honest_single, abs=1e-12)


def test_a_perfect_system_gets_all_the_weight() -> None:
    data = Data(noise=(0.2, 0.0, 0.3))
    found = study(VA, data.names, data.moments(), SEARCH)
    for weights in (found.weights, *(half.weights for half in found.halves)):
        np.testing.assert_array_equal(weights, np.eye(3)[[1, 1]])
    assert found.single == "system1"
    assert [found.honest[k] for k in KEYS] == pytest.approx([1, 1, 1])


def test_channels_have_weights_of_their_own() -> None:
    data = Data(noise=(0.3, 0.3))
    for s, p in data.predictions.items():
        p[0, :, 0], p[1, :, 1] = data.truth[s][:, 0], data.truth[s][:, 1]
    np.testing.assert_array_equal(study(VA, data.names, data.moments(), SEARCH).weights, np.eye(2))


@pytest.mark.parametrize("videos", [2, 3, 6, 7])
def test_no_video_is_in_both_fit_and_report(videos: int) -> None:
    data = Data(videos=videos)
    found = study(VA, data.names, data.moments(), SEARCH)
    first, second = (set(half.videos) for half in found.halves)
    assert not first & second
    assert first | second == set(data.video.values())  # both streams of a video with it
    assert 0 <= len(first) - len(second) <= 1
    for half, other in ((found.halves[0], second), (found.halves[1], first)):
        fitted = late_fusion.fit(VA, reduce(add, (s for v in other for s in data.moments()[v])), 3, SEARCH)
        np.testing.assert_array_equal(half.weights, fitted)
        for video in half.videos:
            assert found.weights_for(video) is half.weights


def test_labels_of_a_half_do_not_reach_its_own_weights() -> None:
    data = Data()
    before = study(VA, data.names, data.moments(), SEARCH)
    for s, video in data.video.items():
        if video in before.halves[0].videos:
            data.truth[s] = -data.truth[s]
    after = study(VA, data.names, data.moments(), SEARCH)
    np.testing.assert_array_equal(after.halves[0].weights, before.halves[0].weights)
    assert not np.array_equal(after.halves[1].weights, before.halves[1].weights)


def test_halves_hang_on_the_ids_alone() -> None:
    ids = [f"video{i}" for i in range(21)]
    assert late_fusion.halves(ids) == late_fusion.halves(ids[::-1])
    assert [len(h) for h in late_fusion.halves(ids)] == [11, 10]
    assert late_fusion.halves(["one"]) == (["one"], [])


def test_one_labelled_video_is_fitted_on_and_not_reported() -> None:
    data = Data(videos=1)
    found = study(VA, data.names, data.moments(), SEARCH)
    assert found.halves == ()
    assert found.honest is found.honest_single is None
    assert found.weights_for("v0") is None
    assert found.weights_for("another") is found.weights


def test_the_order_of_systems_does_not_matter_and_seeds_do() -> None:
    data = Data(noise=(0.4, 0.4, 0.4))
    found = study(VA, data.names, data.moments(), SEARCH)
    with pytest.raises(ValueError, match="want sorted names"):
        study(VA, data.names[::-1], data.moments((2, 1, 0)), SEARCH)
    again = study(VA, data.names, data.moments(), SEARCH)
    np.testing.assert_array_equal(again.weights, found.weights)
    assert again.honest == found.honest
    other = study(VA, data.names, data.moments(), Search(largest=3, step=0.1, draws=100, seed=2))
    assert not np.array_equal(other.weights, found.weights)
    assert (found.weights > 0).all()  # three equal systems want a three


def test_who_is_absent_lends_its_weight_to_the_others() -> None:
    weights = np.array([[0.5, 0.3, 0.2], [0.0, 0.0, 1.0]])
    predictions = np.arange(1, 13, dtype=np.float64).reshape(3, 2, 2) / 20
    given = np.array([[True, False], [True, False], [False, False]])
    values, valid = fuse(VA, weights, predictions, given)
    assert valid.tolist() == [True, False]
    assert values[0, 0] == pytest.approx((0.5 * predictions[0, 0, 0] + 0.3 * predictions[1, 0, 0]) / 0.8)
    assert values[0, 1] == pytest.approx((predictions[0, 0, 1] + predictions[1, 0, 1]) / 2)  # none of the weighted is here
    np.testing.assert_array_equal(values[1], 0)
    np.testing.assert_allclose(shares(weights, np.ones(3, bool)), weights, atol=1e-15)


def test_a_system_without_any_value_is_neither_weighted_nor_the_best() -> None:
    """Where it stood alone it would score as the mean of the others, which here is better than either."""
    data = Data(noise=(0.4, 0.4, 0.0))
    for s in data.given:
        data.given[s][2] = False
    found = study(VA, data.names, data.moments(), SEARCH)
    without = Data(noise=(0.4, 0.4, 0.0))
    without.names = data.names[:2]
    two = study(VA, without.names, without.moments((0, 1)), SEARCH)
    np.testing.assert_array_equal(found.weights, np.pad(two.weights, ((0, 0), (0, 1))))
    assert (found.single, found.honest_single) == (two.single, pytest.approx(two.honest_single, abs=1e-12))
    assert [half.single for half in found.halves] == [half.single for half in two.halves]


def test_fused_values_stay_within_those_fused() -> None:
    data = Data(absent=True)
    values, valid = fuse(VA, np.array([[0.2, 0.3, 0.5], [1.0, 0, 0]]), data.predictions["v1"], data.given["v1"])
    given = np.where(data.given["v1"][..., None], data.predictions["v1"], np.nan)[:, valid]
    assert (values[valid] <= np.nanmax(given, axis=0) + 1e-12).all()
    assert (values[valid] >= np.nanmin(given, axis=0) - 1e-12).all()


def test_nothing_to_fit_on_is_refused() -> None:
    data = Data(videos=2)
    for s in data.known:
        data.known[s][:] = False
    with pytest.raises(InputError, match="want a video to score with labels of va and a prediction, got none"):
        study(VA, data.names, data.moments(), SEARCH)


def test_the_cost_does_not_hang_on_the_frames() -> None:
    rng = np.random.default_rng(0)
    moments = {}
    for v in range(4):
        truth = rng.uniform(-1, 1, (50_000, 2))
        predictions = truth + rng.normal(0, 0.3, (4, 50_000, 2))
        moments[f"v{v}"] = [Evidence.of(VA, truth, np.ones(50_000, bool), predictions, np.ones((4, 50_000), bool))]
    start = time.process_time()
    study(VA, tuple("abcd"), moments, Search(draws=2000))
    assert time.process_time() - start < 2


@pytest.mark.parametrize("systems", [1, 8, 9, 20])
def test_any_number_of_systems(systems: int) -> None:
    rng = np.random.default_rng(systems)
    predictions, given = rng.uniform(-1, 1, (systems, 50, 2)), rng.random((systems, 50)) < 0.8
    given[:, 3] = False
    weights = rng.dirichlet(np.ones(systems), 2)
    values, valid = fuse(VA, weights, predictions, given)
    np.testing.assert_array_equal(valid, given.any(axis=0))
    for t in np.flatnonzero(valid):
        here = given[:, t]
        np.testing.assert_allclose(values[t], [np.average(predictions[here, t, c], weights=weights[c, here]) for c in range(2)], atol=1e-12)
