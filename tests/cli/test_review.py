"""The review of face tracks: measures of doubt, the sheet, and the file in which a person decides."""

import csv
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from affpipe.cli import main
from affpipe.core.errors import InputError, ManifestError, StoreError
from affpipe.core.tasks.table import VA
from affpipe.data import manifest
from affpipe.faces import workers as stages
from affpipe.faces.crop import cut, encode_jpeg
from affpipe.faces.subject import RULES, choose
from affpipe.jobs import apply, workers
from affpipe.plan.config import overlay, parse
from affpipe.plan.plan import Plan
from affpipe.results.review.candidates import AMBIGUOUS, Faces, ambiguity, doubts, tracks, why
from affpipe.results.review.review import Outcome, review
from affpipe.results.review.sheet import LANES, THUMBS
from affpipe.store import streams
from affpipe.store.index import Entry, write_index

ROOT = Path(__file__).resolve().parents[2]
DEFAULT = yaml.safe_load((ROOT / "config.yaml").read_text())
T, WIDTH = 40, 320
Piece = tuple[int, int, int, int, int]  # track, first frame, last frame (not in it), left edge, side


def faces(*pieces: Piece, frames: int = T) -> Faces:
    rows = [(f, t, (x, 20, x + s, 20 + s)) for t, a, b, x, s in pieces for f in range(a, b)]
    rows.sort()
    frame, track, box = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [])
    boxes = np.array(box, np.float32).reshape(-1, 4)
    return Faces(np.array(frame, np.int64), np.array(track, np.int64), boxes, np.full(len(frame), 0.9, np.float32), frames, WIDTH)


def look(found: Faces, rule: str = "largest", others: dict[str, np.ndarray] | None = None) -> tuple[float, str]:
    choice = choose(found.frame, found.track, found.box, rule=rule, frames=found.frames, width=found.width)
    about = doubts(found, tracks(found), rule, choice, others or {})
    assert [d.value for d in about] == sorted((d.value for d in about), reverse=True)
    assert all(0 < d.value <= 1 and d.why.isascii() for d in about)
    return ambiguity(about), why(about)


# ---- how doubtful a choice is -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("found", [faces((3, 0, T, 100, 60)), faces()])
def test_one_clean_track_or_no_face_leaves_no_doubt(found):
    assert look(found) == (0.0, "clear")


def test_a_rival_counts_by_the_square_of_its_area_and_the_time_beside():
    for side, frames in ((20, T), (40, T), (40, T // 2), (60, T)):
        rival = faces((0, 0, T, 10, 60), (1, 0, frames, 200, side))
        share = (side**2 / 60**2) ** 2 * frames / T
        value, said = look(rival)
        assert value == pytest.approx(share)
        size = f"a face of {100 * side**2 / 60**2:.0f} % of its area is beside it in {100 * frames / T:.0f} % of its frames (track 1)"
        assert said == (size if share >= 0.05 else "clear")


def test_a_rival_that_the_rule_sets_aside_is_none():
    assert look(faces((0, 0, T, 10, 60), (1, 0, T, 200, 18)))[0] == 0  # 9 % of the area
    assert look(faces((0, 0, T, 10, 60), (1, 0, 4, 200, 60)))[0] == 0  # four frames


def test_a_rival_that_another_stream_takes_is_none():
    pair = faces((0, 0, T, 10, 60), (1, 0, T, 200, 60))
    other = np.array([np.flatnonzero((pair.frame == f) & (pair.track == 1))[0] for f in range(T)])
    assert look(pair)[0] == 1
    assert look(pair, others={"x_right": other}) == (0.0, "clear")


@pytest.mark.parametrize("rule", ["left", "right"])
def test_people_who_swap_sides(rule):
    wrong = 10
    swap = faces((0, 0, T - wrong, 10, 60), (1, 0, T - wrong, 200, 60), (0, T - wrong, T, 200, 60), (1, T - wrong, T, 10, 60))
    value, said = look(swap, rule)
    assert value == pytest.approx(2 * wrong / T)
    assert said == f"another face is further {rule} in 25 % of its frames (track {int(rule == 'left')})"
    assert look(faces((0, 0, T, 10, 60), (1, 0, T, 200, 60)), rule) == (0.0, "clear")


def test_someone_else_while_the_subject_is_away():
    value, said = look(faces((0, 0, 30, 10, 60), (1, 26, T, 200, 60)))
    assert value == pytest.approx(2 * 10 / T)
    assert said.startswith("someone else is in view without it in 25 % of the video (track 1); ")


def test_a_subject_seldom_seen():
    assert look(faces((0, 0, T // 4, 10, 60))) == (0.75**2, "it is not seen in 75 % of the video")


def test_pieces_in_place_continue_and_others_do_not():
    assert look(faces((0, 0, 20, 10, 60), (1, 20, T, 10, 60))) == (0.0, "clear")
    value, said = look(faces((0, 0, 30, 10, 60), (1, 30, T, 200, 60)))
    assert (value, said) == (pytest.approx(2 * 10 / T), "it is joined of 2 pieces that may not be one person")
    half = look(faces((0, 0, 30, 10, 60), (1, 30, T, 40, 60)))[0]  # shifted by half a face: IoU 30 / 90
    assert half == pytest.approx(2 * 10 / T * (1 - 30 / 90), rel=1e-6)
    third = faces((0, 0, 20, 10, 60), (1, 20, 30, 200, 60), (2, 30, T, 200, 60))  # the worst joint on the way counts
    assert look(third)[0] == 1.0


def test_two_streams_with_one_face():
    one = faces((0, 0, T, 10, 60))
    assert look(one, others={"v_right": np.arange(T)}) == (1.0, "it is the same face as stream v_right in 100 % of its frames")
    assert look(one, others={"v_right": np.where(np.arange(T) < 10, np.arange(T), -1)})[0] == 0.25


def test_a_rule_that_takes_nothing():
    assert look(faces((0, 0, 4, 10, 60))) == (1.0, "all tracks, 1, are too short or small for the rule")
    assert look(faces((0, 0, T, 10, 60)), "right") == (1.0, "rule right takes none of the 1 plausible tracks")


def test_plausible_tracks_are_those_that_the_rule_considers():
    rng = np.random.default_rng(0)
    for _ in range(30):
        pieces = []
        for t in range(rng.integers(1, 7)):
            a = int(rng.integers(0, T - 1))
            pieces.append((t, a, int(rng.integers(a + 1, T + 1)), 5 + 50 * t, int(rng.integers(8, 60))))
        found = faces(*pieces)
        choice = choose(found.frame, found.track, found.box, rule="largest", frames=T, width=WIDTH)
        summary = tracks(found)
        assert [t.id for t in summary] == [p[0] for p in pieces]
        assert [len(t.rows) for t in summary] == [p[2] - p[1] for p in pieces]
        assert [round(t.side) for t in summary] == [p[4] for p in pieces]
        ignored = sum(not t.plausible for t in summary)
        assert (f"{ignored} short or small" in choice.reason) == (ignored > 0)
        assert set(choice.tracks) <= {t.id for t in summary if t.plausible}
        for rule in RULES:
            look(found, rule)


# ---- the sheet and the file -------------------------------------------------------------------------------------------------------------


VIDEOS: dict[str, list[Piece] | None] = {
    "clean": [(0, 0, T, 100, 60)],
    "pair": [(0, 0, T, 200, 60), (1, 0, T, 20, 50)],
    "rivals": [(0, 0, T, 200, 60), (1, 0, T, 20, 58), (2, 0, 3, 100, 60)],
    "empty": [],
    "not made": None,
}
ROWS = [
    ("clean", "clean", "", "train"),
    ("pair_left", "pair", "left", "train"),
    ("pair_right", "pair", "right", "validation"),
    ("rivals", "rivals", "", "validation"),
    ("empty", "empty", "", "test"),
    ("not made", "not made", "", "test"),
]


class Data:
    """Videos with faces in a store, and plans and reviews of them."""

    def __init__(self, folder: Path):
        self.folder, self.videos, self.rows = folder, dict(VIDEOS), list(ROWS)
        self.out = folder / "review"
        (folder / "a.txt").write_text(f"{VA.header}\n0.1,0.2\n")

    def settings(self, change: dict[str, Any] | None = None) -> Any:
        own = {"cache": str(self.folder / "cache"), "manifest": str(self.folder / "m.csv"), "data_root": str(self.folder), "shards": 2}
        return parse(overlay(overlay(DEFAULT, own), change or {}))

    def plan(self, change: dict[str, Any] | None = None) -> Plan:
        return Plan(self.settings(change), manifest.read(self.folder / "m.csv", self.folder))

    def curated(self, path: Path | None = None) -> Plan:
        return self.plan({"subject": {"curation": str(path or self.out / "curation.csv")}})

    def fill(self, change: dict[str, Any] | None = None) -> "Data":
        table = "".join(f'{i},"{v}.mp4",{s},{p},{"a.txt" if p in ("train", "validation") else ""}\n' for i, v, s, p in self.rows)
        (self.folder / "m.csv").write_text("stream_id,video,subject,partition,va\n" + table)
        for video in self.videos:
            (self.folder / f"{video}.mp4").write_bytes(video.encode() * 100)
        plan = self.plan(change)
        for item in plan.items("faces"):
            if self.videos[item.id] is not None:
                _store(plan, item, self.videos[item.id])
        return self

    def review(self, change: dict[str, Any] | None = None, **options: Any) -> Outcome:
        return review(self.settings(change), self.out, command="make it", progress=lambda *_: None, **options)

    def cells(self) -> dict[str, dict[str, str]]:
        with (self.out / "curation.csv").open(newline="") as file:
            return {cells["stream_id"]: cells for cells in csv.DictReader(file)}

    def decide(self, **tracks: str) -> None:
        rows = self.cells()
        for stream, cell in tracks.items():
            rows[stream]["tracks"] = cell
        with (self.out / "curation.csv").open("w", newline="") as file:
            table = csv.DictWriter(file, list(next(iter(rows.values()))))
            table.writeheader()
            table.writerows(rows.values())

    def page(self) -> "Page":
        page = Page()
        page.feed((self.out / "review.html").read_text())
        page.close()
        assert not page.open
        return page


def _store(plan: Plan, item: Any, pieces: list[Piece]) -> None:
    found = faces(*pieces)
    times, fps = np.arange(T) / 10, Fraction(10)
    job = plan.job("frames", item)
    shown = {"start_s": times, "end_s": times + 0.1, "valid": np.ones(T, bool)}
    job.write(job.header(fps, video={"width": WIDTH}), values=np.full((T, 1), 0.1, np.float32), **shown)
    job = plan.job("faces", item)
    cuts = [cut(np.full((240, WIDTH, 3), 60 + 40 * t, np.uint8), box, 0.5, 64) for t, box in zip(found.track, found.box, strict=True)]
    job.write(
        job.header(fps),
        values=found.box,
        start_s=times[found.frame],
        end_s=times[found.frame] + 0.1,
        valid=np.ones(len(found.frame), bool),
        frame=found.frame,
        track=found.track,
        score=found.score,
        crop_box=np.array([box for _, box in cuts], np.int32).reshape(-1, 4),
        crop=[encode_jpeg(crop, 80) for crop, _ in cuts],
    )


class Page(HTMLParser):
    """What a page holds: its text, the addresses that it names, its classes by tag, and tags left open."""

    VOID = frozenset({"meta", "input", "img", "path", "br"})

    def __init__(self):
        super().__init__()
        self.text, self.links, self.tags, self.open = "", [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.links += [value for name, value in attrs if name in ("src", "href", "action", "data", "srcset", "poster")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def of(self, css: str) -> list[dict[str, str]]:
        return [attrs for _, attrs in self.tags if css in (attrs.get("class") or "").split()]


@pytest.fixture
def data(tmp_path) -> Data:
    return Data(tmp_path)


def test_every_stream_is_on_the_sheet_and_in_the_file(data):
    made = data.fill().review()
    assert (made.streams, made.ambiguous, made.decided, made.missing, made.faults) == (5, 1, 0, 1, [])
    page, cells = data.page(), data.cells()
    assert list(cells) == [row[0] for row in ROWS]
    assert all(stream in page.text for stream in cells)
    assert {id: (c["tracks"], c["chosen"], c["ambiguity"]) for id, c in cells.items()} == {
        "clean": ("", "0", "0.00"),
        "pair_left": ("", "1", "0.00"),
        "pair_right": ("", "0", "0.00"),
        "rivals": ("", "0", f"{(58 / 60) ** 4:.2f}"),
        "empty": ("", "none", "0.00"),
        "not made": ("", "", ""),
    }
    assert cells["rivals"]["why"] == "a face of 93 % of its area is beside it in 100 % of its frames (track 1)"
    assert cells["not made"]["faces"] == ""
    key = data.plan().key("faces")
    assert all(c["faces"].startswith(f"faces/{key}/") for id, c in cells.items() if id != "not made")
    assert "frames: not made yet" in page.text
    assert "make it" in page.text
    assert (data.out / "curation.csv").read_bytes().isascii()


def test_the_most_ambiguous_comes_first_and_links_lead_within(data):
    data.fill().review()
    page = data.page()
    videos = page.of("video")
    assert [v["class"] for v in videos] == ["video ambiguous"] + ["video clear"] * 3
    ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    inner = [link for link in page.links if link.startswith("#")]
    assert inner
    assert {link[1:] for link in inner} <= ids
    assert page.text.index("rivals") < page.text.index("clean")


def test_the_sheet_needs_nothing_else_and_is_small(data):
    data.videos |= {"clean": [(t, 5 * t, 5 * t + 5, 20 + 8 * t, 40) for t in range(8)] + [(8 + t, 0, T, 30 * t, 30) for t in range(9)]}
    data.fill().review()
    page, text = data.page(), (data.out / "review.html").read_text()
    assert "http" not in text
    assert "@import" not in text
    assert "script" not in {tag for tag, _ in page.tags}
    assert all(link.startswith(("#", "data:image/jpeg;base64,")) for link in page.links)
    lanes = page.of("lane")
    pictures = [tag for tag, _ in page.tags if tag == "img"]
    assert len(lanes) == LANES + 2 + 2 + 3  # drawn tracks, and an axis for each video with faces
    assert 0 < len(pictures) <= THUMBS * len(lanes)
    assert "Not drawn: tracks " in page.text
    assert "1 track too short or small for the rule, not drawn" in page.text
    assert len(text) < 30_000 + 1_500 * len(pictures)


def test_names_and_reasons_are_escaped(data):
    odd = 'a"><script>alert(1)</script>&amp;'
    data.videos |= {odd.replace("/", ""): [(0, 0, T, 100, 60)]}
    data.rows[0] = ("clean", odd.replace("/", "").replace('"', '""'), "", "train")
    settings = {"name": "demo"}
    data.fill(settings).review(settings)
    page = data.page()
    assert "script" not in {tag for tag, _ in page.tags}
    assert odd.replace("/", "") in page.text


def test_a_reason_of_a_failed_stage_is_said_and_escaped(data):
    data.fill()
    plan = data.plan()
    shard = next(s for s, videos in plan.shards.items() if "not made" in videos)
    write_index(Path(plan.index("frames", shard)), {"not made": Entry("failed", reason="<b>broken</b> & cut off")})
    data.review()
    assert "frames: <b>broken</b> & cut off" in data.page().text


# ---- decisions --------------------------------------------------------------------------------------------------------------------------


def identities(plan: Plan) -> dict[str, str]:
    return {i.id: i.identity for i in plan.items("subject")}


def same_plan(a: Plan, b: Plan) -> bool:
    return a.run == b.run and all(a.members(n, s) == b.members(n, s) and a.key(n) == b.key(n) for n in a.names for s in a.shards)


def test_a_fresh_file_changes_nothing(data):
    data.fill().review()
    assert same_plan(data.plan(), data.curated())


@pytest.mark.parametrize(("cell", "taken"), [("1", (1,)), ("1 0", (0, 1)), ("none", ()), (" NONE ", ()), ("0", (0,))])
def test_a_decision_changes_its_stream_alone(data, cell, taken):
    data.fill().review()
    before = identities(data.plan())
    data.decide(rivals=cell)
    after = data.curated()
    assert {id for id, identity in identities(after).items() if identity != before[id]} == {"rivals"}
    assert {i.id: i.tracks for i in after.items("subject")} == {row[0]: taken if row[0] == "rivals" else None for row in ROWS}


def test_decisions_survive_a_second_review(data):
    data.fill().review()
    data.decide(rivals="1", clean="none")
    curated = identities(data.curated())
    made = data.review({"subject": {"curation": str(data.out / "curation.csv")}})
    assert (made.ambiguous, made.decided, made.in_force) == (0, 2, True)
    cells = data.cells()
    assert (cells["rivals"]["tracks"], cells["rivals"]["chosen"], cells["clean"]["tracks"]) == ("1", "0", "none")
    assert identities(data.curated()) == curated
    page = data.page()
    assert "curated: tracks 1" in page.text
    assert "the rule largest took 0" in page.text
    assert [v["class"] for v in page.of("video")] == ["video clear"] * 2 + ["video decided"] * 2
    first = (data.out / "curation.csv").read_bytes()
    data.review()
    assert (data.out / "curation.csv").read_bytes() == first


def test_decisions_of_the_settings_are_taken_over_with_columns_of_the_persons_own(data):
    path = data.folder / "mine.csv"
    path.write_text('tracks,stream_id,note\n1,rivals,"sure, it is"\n')
    made = data.fill().review({"subject": {"curation": str(path)}})
    assert (made.decided, made.in_force) == (1, False)
    cells = data.cells()["rivals"]
    assert (cells["tracks"], cells["note"]) == ("1", "sure, it is")
    assert cells["faces"] == data.plan().numbering(data.plan().rows[3])
    assert identities(data.curated()) == identities(data.curated(path))


def test_the_file_that_the_settings_name_may_still_have_to_be_written(data):
    data.fill()
    assert data.review({"subject": {"curation": str(data.out / "curation.csv")}}).in_force
    (data.out / "curation.csv").unlink()
    with pytest.raises(ManifestError, match=r"lost\.csv: want a readable curation file"):
        data.review({"subject": {"curation": str(data.folder / "lost.csv")}})


def test_track_numbers_of_other_faces_are_refused_then_reported_and_left_out(data):
    data.fill().review()
    data.decide(rivals="1", clean="none")
    other = {"faces": {"min_score": 0.6}}
    file = str(data.out / "curation.csv")
    said = r"curation\.csv: row 5: want tracks of rivals numbered for faces/.*, got faces/.*; run `affpipe faces review` again"
    with pytest.raises(ManifestError, match=said):
        data.plan(other | {"subject": {"curation": file}})
    before = (data.out / "curation.csv").read_text()
    data.fill(other)
    made = data.review(other | {"subject": {"curation": file}})
    old = data.plan().numbering(data.plan().rows[3])
    assert made.faults == [f"rivals: tracks 1 were numbered for {old}: not carried over, decide anew (they are in {file}.old)"]
    assert (data.out / "curation.csv.old").read_text() == before
    cells = data.cells()
    assert (cells["rivals"]["tracks"], cells["clean"]["tracks"]) == ("", "none")  # nobody is nobody, however faces are numbered
    assert {i.id: i.tracks for i in data.plan(other | {"subject": {"curation": file}}).items("subject") if i.tracks is not None} == {
        "clean": ()
    }
    assert f"rivals: tracks 1 were numbered for {old}" in data.page().text


def test_a_replaced_video_has_other_faces(data):
    data.fill().review()
    data.decide(rivals="1")
    (data.folder / "rivals.mp4").write_bytes(b"another film")
    with pytest.raises(ManifestError, match=r"want tracks of rivals numbered for"):
        data.curated()
    made = data.review()
    assert made.missing == 2
    cells = data.cells()["rivals"]
    assert {cells[c] for c in ("tracks", "chosen", "ambiguity", "why", "faces")} == {""}


def test_a_decision_for_tracks_that_are_not_there_is_said_and_kept(data):
    data.fill().review()
    data.decide(rivals="7")
    made = data.review()
    assert made.faults == ["rivals: subject: want tracks among [0, 1, 2], got [7]; mend the curation file"]
    assert data.cells()["rivals"]["tracks"] == "7"
    assert (made.ambiguous, made.decided) == (0, 0)
    page = data.page()
    assert "want tracks among [0, 1, 2], got [7]" in page.text
    assert page.of("video")[0]["class"] == "video fault"


def test_some_streams_are_reviewed_and_the_rows_of_others_stay(data):
    data.fill().review()
    data.decide(clean="0", pair_right="0")
    rows = data.cells()
    made = data.review(streams=["pair_left"])
    assert (made.streams, made.missing, made.decided) == (2, 0, 1)
    assert "rivals" not in data.page().text
    assert data.cells() == rows
    with pytest.raises(InputError, match=r"want streams of .*, got nowhere; correct --stream"):
        data.review(streams=["nowhere"])


def test_a_damaged_crop_names_its_file(data):
    data.fill()
    plan = data.plan()
    item = next(i for i in plan.items("faces") if i.id == "clean")
    found = faces((0, 0, T, 100, 60))
    job, n = plan.job("faces", item), len(found.frame)
    axis = {"start_s": np.arange(n) / 10, "end_s": np.arange(n) / 10, "valid": np.ones(n, bool)}
    more = {"frame": found.frame, "track": found.track, "score": found.score, "crop_box": np.tile(np.int32([0, 0, 9, 9]), (n, 1))}
    job.write(job.header(Fraction(10)), values=found.box, **axis, **more, crop=[b"no picture"] * n)
    with pytest.raises(StoreError, match=r"faces/.*/clean\..*: row \d+: decode_jpeg"):
        data.review()


@pytest.mark.parametrize(("tracks", "seen"), [("none", 0), ("1", T), ("0 1", T)])
def test_the_stage_makes_what_the_sheet_shows(data, tracks, seen):
    data.fill().review()
    data.decide(rivals=tracks)
    plan = data.curated()
    item = next(i for i in plan.items("subject") if i.id == "rivals")
    stages.subject(plan.context("subject"))(plan.job("subject", item))
    with streams.Stream(plan.stream("subject", item)) as stream:
        assert int(stream.valid.sum()) == seen
        assert stream.attributes["extra"]["tracks"] == [int(t) for t in tracks.split() if t != "none"]
        assert stream.attributes["extra"]["reason"] == f"curated: tracks {tracks if tracks != 'none' else '(none)'}"


def test_the_command(data):
    data.fill()
    (data.folder / "c.yaml").write_text(yaml.safe_dump(data.settings().model_dump(mode="json", exclude_defaults=True)))
    args = ["faces", "review", "--config", str(ROOT / "config.yaml"), str(data.folder / "c.yaml"), "--out", str(data.out)]
    result = CliRunner().invoke(main.app, args, catch_exceptions=False)
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 1
    assert result.stdout.startswith(
        "5 streams, 1 ambiguous, 0 decided, 1 without faces (snakemake --cores 2 --until apply_faces --configfile "
    )
    assert result.stdout.endswith(f"then set `subject: {{curation: {data.out / 'curation.csv'}}}` and run the workflow\n")


def test_ambiguity_has_a_middle():
    """Half the area beside the subject all the time is where a stream begins to be called ambiguous."""
    assert look(faces((0, 0, T, 10, 80), (1, 0, T, 200, 56)))[0] < AMBIGUOUS < look(faces((0, 0, T, 10, 80), (1, 0, T, 200, 57)))[0]


def test_two_people_of_a_real_clip(data, media):
    """Found, tracked, reviewed, decided the other way round, made: the stages and the sheet mean the same tracks."""
    rows = "".join(f"{side},{media / 'two_people_grid.mp4'},{side},predict,\n" for side in ("left", "right"))
    (data.folder / "m.csv").write_text("stream_id,video,subject,partition,va\n" + rows)
    plan, made = data.plan(), {}
    for stage in ("frames", "faces"):
        made[stage] = apply.apply(plan, stage, plan.items(stage), made, workers.start, lambda *_: None)
        assert [entry.status for entry in made[stage].values()] == ["done"]
    outcome = data.review()
    assert (outcome.streams, outcome.ambiguous, outcome.missing) == (2, 0, 0)
    cells = data.cells()
    left, right = cells["left"]["chosen"], cells["right"]["chosen"]
    assert not set(left.split()) & set(right.split())
    assert len(data.page().of("video")) == 1
    data.decide(left=right, right="none")
    plan = data.curated()
    made["subject"] = apply.apply(plan, "subject", plan.items("subject"), made, workers.start, lambda *_: None)
    with streams.Stream(plan.stream("subject", plan.items("subject")[0])) as stream:
        assert stream.valid.mean() > 0.9
        assert stream.rows()[stream.valid][:, 0].min() > 360  # of 720: the one on the right
    with streams.Stream(plan.stream("subject", plan.items("subject")[1])) as stream:
        assert not stream.valid.any()


def test_a_run_that_looks_for_no_face_says_so(tmp_path):
    data = Data(tmp_path).fill()
    with pytest.raises(InputError, match="want a run that looks for faces, got one whose models read none"):
        data.review({"models": {"face": None, "voice": None, "fused": None}, "publish": "behaviour"})
