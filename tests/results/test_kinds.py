"""What holds for every kind of task, official or one's own: laws that name no task, and values against independent formulas."""

import numpy as np
import pytest
import torch

from affpipe.core.tasks import metrics
from affpipe.core.tasks.classes import Classes
from affpipe.core.tasks.dimensions import Dimensions
from affpipe.core.tasks.table import TASKS, VA
from affpipe.core.tasks.task import Decoding, slices, width
from affpipe.core.tasks.units import Units
from affpipe.models.terms.build import training_loss
from affpipe.models.training_settings import Loss
from affpipe.results import bootstrap, late_fusion
from affpipe.results.late_evidence import Evidence, total
from affpipe.system.compat import ensure_torchvision

MOOD = Classes("mood", "mood", -1, column="mood", names=("calm", "tense", "none"))
SCALE = Dimensions("dominance", "dominance", -5, ranges={"dominance": (1.0, 9.0)})
SEVERAL = Dimensions("pad", "three", -99, ranges={"p": (-1, 1), "a": (0, 1), "d": (-3, 5)})
PAIN = Units("pain", "pain", -1, names=("brows", "lips", "eyes"))
OWN = {task.name: task for task in (SCALE, MOOD, SEVERAL, PAIN)}
ALL = [*TASKS.values(), *OWN.values()]
by_name = pytest.mark.parametrize("task", ALL, ids=lambda task: task.name)


def labels(task, n, rng):
    """(n, K) labels that the task may have."""
    if task.kind == "dimensions":
        low, high = np.array(list(task.ranges.values()), float).T
        return rng.uniform(low, high, (n, len(low)))
    return rng.integers(len(task.outputs) if task.kind == "classes" else 2, size=(n, len(task.columns))).astype(float)


def raw_of(task, values):
    """Outputs that decode to these labels without any filter."""
    if task.kind == "dimensions":
        return task.scaled(values)
    sure = np.eye(len(task.outputs))[values[:, 0].astype(int)] if task.kind == "classes" else values
    return 8 * sure - 4


@by_name
def test_what_is_scaled_comes_back(task):
    rng, valid = np.random.default_rng(0), np.ones(40, bool)
    truth = labels(task, 40, rng)
    found, chances = task.decode(raw_of(task, truth), valid, Decoding())
    np.testing.assert_allclose(found, truth, atol=1e-12)
    assert (chances is None) == (task.kind == "dimensions")
    if task.kind == "classes":
        np.testing.assert_allclose(chances.sum(axis=1), 1, atol=1e-12)


def test_outputs_lie_between_minus_one_and_one_and_what_is_beyond_is_clipped():
    np.testing.assert_array_equal(SEVERAL.scaled(np.array([[-1.0, 0, -3], [1, 1, 5], [0, 0.5, 1]])), [[-1] * 3, [1] * 3, [0] * 3])
    found, _ = SCALE.decode(np.array([[-2.0], [0.0], [3.0]]), np.ones(3, bool), Decoding())
    np.testing.assert_array_equal(found, [[1.0], [5.0], [9.0]])


@by_name
def test_perfect_agreement_scores_one_and_a_pooled_figure_is_that_of_all_frames(task):
    rng = np.random.default_rng(1)
    videos = {f"v{i}": (truth := labels(task, n, rng), truth.copy(), np.ones(n, bool)) for i, n in enumerate((30, 50, 41))}
    assert metrics.pooled(task, videos)[task.measure] == pytest.approx(1)
    guess = {name: (truth, labels(task, len(truth), rng), valid) for name, (truth, _, valid) in videos.items()}
    whole = [np.concatenate(part) for part in zip(*guess.values(), strict=True)]
    assert metrics.pooled(task, guess) == pytest.approx(metrics.scores(task, *whole))
    assert tuple(metrics.pooled(task, guess)) == task.figures
    assert set(task.output_figures) <= set(task.figures)


@by_name
def test_sums_of_videos_have_the_figures_of_all_and_their_slopes(task):
    rng = np.random.default_rng(2)
    parts = [(labels(task, n, rng), labels(task, n, rng)) for n in (60, 45)]
    sums = np.sum([task.sums(*part) for part in parts], axis=0)
    value, slope = task.atoms(sums[None])
    mean = [value[0][own].mean() for own in task.members]
    assert mean == pytest.approx(list(task.scores(parts).values()), abs=1e-9)
    step = 1e-4
    for s in range(len(sums)):
        moved = sums + step * np.eye(len(sums))[s]
        np.testing.assert_allclose((task.atoms(moved[None])[0] - value)[0] / step, slope[0, :, s], atol=2e-3)
    limits = bootstrap.interval(
        task, {f"v{i}": (*part, np.ones(len(part[0]), bool)) for i, part in enumerate(parts * 4)}, seed=0, draws=200
    )
    assert tuple(limits) == task.figures


@pytest.mark.parametrize("task", [MOOD, PAIN], ids=lambda task: task.name)
def test_f1_is_that_of_torchmetrics(task):
    ensure_torchvision()  # torchmetrics looks for it
    from torchmetrics.functional.classification import multiclass_f1_score, multilabel_f1_score

    rng = np.random.default_rng(3)
    truth, guess = labels(task, 200, rng), labels(task, 200, rng)
    own = metrics.scores(task, truth, guess, np.ones(200, bool))
    t, p = (torch.from_numpy(x).long() for x in (truth, guess))
    if task.kind == "classes":
        each, macro = (multiclass_f1_score(p[:, 0], t[:, 0], num_classes=3, average=how) for how in (None, "macro"))
    else:
        each, macro = (multilabel_f1_score(p, t, num_labels=3, average=how) for how in (None, "macro"))
    assert own["f1"] == pytest.approx(macro.item(), abs=1e-6)
    assert [own[f"f1_{name}"] for name in task.outputs] == pytest.approx(each.tolist(), abs=1e-6)


@by_name
def test_text_of_labels_is_read_as_written(task, tmp_path):
    from affpipe.data.annotations import read_labels, write_labels

    rng, valid = np.random.default_rng(4), np.arange(30) % 7 != 0
    truth = labels(task, 30, rng)
    write_labels(task, tmp_path / "a.txt", truth, valid)
    found, known = read_labels(task, tmp_path / "a.txt")
    np.testing.assert_array_equal(known, valid)
    np.testing.assert_allclose(found[valid], truth[valid], atol=5.1e-7)


@by_name
def test_pooling_one_frame_a_row_changes_nothing(task):
    rng = np.random.default_rng(5)
    truth, at = labels(task, 25, rng), np.arange(25)
    pooled, known = task.pool(truth, np.ones(25, bool), at, at + 1)
    np.testing.assert_allclose(pooled, truth, rtol=1e-6)
    assert known.all()
    assert not task.pool(truth, np.zeros(25, bool), at, at + 1)[1].any()


def test_rows_of_several_tasks_hold_each_at_its_place():
    assert slices(OWN) == {"dominance": slice(0, 1), "mood": slice(1, 4), "pad": slice(4, 7), "pain": slice(7, 10)}
    assert slices(OWN, "columns") == {"dominance": slice(0, 1), "mood": slice(1, 2), "pad": slice(2, 5), "pain": slice(5, 8)}
    assert slices(OWN, "thresholded")["pain"] == slice(0, 3)
    assert (width(OWN), width(OWN, "columns"), width(OWN, "thresholded")) == (10, 8, 3)


def test_a_loss_of_own_tasks_is_the_sum_of_those_of_their_kinds():
    rng = np.random.default_rng(6)
    target = np.concatenate([task.scaled(labels(task, 20, rng)) for task in OWN.values()], axis=1)[None]
    known = np.ones((1, 20, len(OWN)), bool)
    settings = Loss.model_validate({"tasks": {"mood": {"weight": 3.0}, "pad": {"weights": {"p": 1.0}}}})
    raw = torch.from_numpy(rng.normal(size=(1, 20, width(OWN))))
    target_, known_ = torch.from_numpy(target), torch.from_numpy(known)
    whole = training_loss(OWN, settings, target, known)
    parts = {
        name: training_loss({name: task}, settings, target[..., slices(OWN, "columns")[name]], known[..., [i]])
        for i, (name, task) in enumerate(OWN.items())
    }
    each = [
        part(raw[..., slices(OWN)[name]], target_[..., slices(OWN, "columns")[name]], known_[..., [i]])
        for i, (name, part) in enumerate(parts.items())
    ]
    assert whole(raw, target_, known_).item() == pytest.approx(sum(each).item())
    p, t = raw[0, :, 4].numpy(), target[0, :, 2]  # of pad the dimension p alone has a weight
    cov = np.cov(t, p, bias=True)
    assert each[2].item() == pytest.approx(1 - 2 * cov[0, 1] / (cov[0, 0] + cov[1, 1] + (t.mean() - p.mean()) ** 2), abs=1e-6)


# ---- late fusion ------------------------------------------------------------------------------------------------------------------------


def systems(task, rng, n=80, videos=4, right=(0.85, 0.6)):
    """Truth by video, and the decoded predictions of systems that are right so often."""
    out = {}
    for v in range(videos):
        truth, each = labels(task, n, rng), []
        for share in right:
            guess = np.where(rng.random((n, 1)) < share, truth, labels(task, n, rng))
            raw = raw_of(task, guess) + rng.normal(0, 0.3, (n, len(task.outputs)))
            thresholds = np.full(len(task.outputs), 0.4) if task.thresholded else None
            values, chances = task.decode(raw, np.ones(n, bool), Decoding(thresholds=thresholds))
            each.append((values, task.blend(values, chances, thresholds)))
        out[f"v{v}"] = truth, [own for own, _ in each], np.stack([blend for _, blend in each])
    return out


@by_name
def test_a_system_alone_fuses_to_its_own_labels(task):
    data = systems(task, np.random.default_rng(7))
    for _, values, blends in data.values():
        for k in range(2):
            weights = np.eye(2)[[k] * len(task.channels)]
            found, valid = late_fusion.fuse(task, weights, blends, np.ones((2, 80), bool))
            np.testing.assert_allclose(found, values[k], atol=1e-9)
            assert valid.all()


@by_name
def test_what_weights_are_worth_is_the_figure_of_the_fused_frames(task):
    data, rng = systems(task, np.random.default_rng(8)), np.random.default_rng(9)
    given = rng.random((2, 80)) < 0.9
    known = rng.random(80) < 0.9
    weights = rng.dirichlet(np.ones(2), len(task.channels))
    evidence = [Evidence.of(task, truth, known, blends, given) for truth, _, blends in data.values()]
    whole = evidence[0] + evidence[1] + evidence[2] + evidence[3]
    videos = {}
    for name, (truth, _, blends) in data.items():
        values, valid = late_fusion.fuse(task, weights, blends, given)
        videos[name] = truth, values, known & valid
    each = [total(task, [(whole, weights[h : h + 1])], h)[0] for h in range(len(task.channels))]
    figures = metrics.pooled(task, videos)
    want = [figures[key] for key in task.output_figures] if task.kind == "dimensions" else [figures["f1"]]
    assert each == pytest.approx(want, abs=1e-6)


def test_what_weights_are_worth_does_not_hang_on_where_the_range_lies():
    """Second moments of numbers near a million would lose the figure to rounding."""
    rng = np.random.default_rng(11)
    far = Dimensions("far", "far", -5, ranges={"far": (999999.99, 1e6)})
    truth = rng.uniform(-1, 1, (80, 1))
    blends, every = np.stack([truth + rng.normal(0, spread, (80, 1)) for spread in (0.3, 0.5)]), np.ones((2, 80), bool)
    usual = Dimensions("usual", "usual", -5, ranges={"usual": (-1.0, 1.0)})
    mapped = [of * 0.005 + 999999.995 for of in (truth, blends)]
    weights = np.array([[1.0, 0], [0, 1], [0.5, 0.5]])
    near = total(usual, [(Evidence.of(usual, truth, every[0], blends, every), weights)], 0)
    assert total(far, [(Evidence.of(far, mapped[0], every[0], mapped[1], every), weights)], 0) == pytest.approx(near, abs=1e-6)


@by_name
def test_late_fusion_is_reported_on_videos_that_its_weights_never_saw(task):
    data = systems(task, np.random.default_rng(10))
    every = np.ones((2, 80), bool)
    evidence = {name: [Evidence.of(task, truth, every[0], blends, every)] for name, (truth, _, blends) in data.items()}
    found = late_fusion.study(task, ("a", "b"), evidence, late_fusion.Search(draws=20))
    first, second = (set(half.videos) for half in found.halves)
    assert not first & second
    assert first | second == set(data)
    assert found.single == "a"
    assert found.honest[task.measure] >= found.honest_single[task.measure] - 0.05
    assert found.optimistic[task.measure] >= found.optimistic_single[task.measure] - 1e-9
    np.testing.assert_allclose(found.weights.sum(axis=1), 1)


def test_a_unit_without_label_or_guess_leaves_late_fusion_a_figure():
    truth, given = np.zeros((9, 3)), np.ones((1, 9), bool)
    blends = np.full((1, 9, 3), 0.2)
    evidence = Evidence.of(PAIN, truth, given[0], blends, given)
    assert total(PAIN, [(evidence, np.ones((1, 1)))], 0)[0] == 1  # truth and prediction agree everywhere


def test_the_official_tasks_are_those_of_the_challenge():
    assert [task.measure for task in TASKS.values()] == ["ccc", "f1", "f1"]
    assert VA.header == "valence,arousal"
    assert [task.invalid for task in TASKS.values()] == [-5, -1, -1]
